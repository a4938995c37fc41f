import { useState, type DragEvent } from "react";
import { api } from "../../api/client";
import { uploadInto } from "../../state/pictures";
import { t } from "../../strings";
import { Icon } from "../icons";
import { ChoiceWidget } from "./choice";
import type { WidgetProps } from "./props";

/** A picture of the input folder, shown; a click or a drop puts a new one there. */
export function ImageWidget(props: WidgetProps) {
  const { node, input, label } = props;
  const name = String(props.value ?? "");
  const [broken, setBroken] = useState<string | null>(null);
  const [over, setOver] = useState(false);
  const shown = name !== "" && broken !== name;
  function drop(event: DragEvent): void {
    const file = [...event.dataTransfer.files].find((item) => item.type.startsWith("image/"));
    setOver(false);
    if (!file) return;
    event.preventDefault();
    event.stopPropagation();
    void uploadInto(node.id, input.name, file);
  }
  return (
    <>
      <ChoiceWidget {...props} />
      <label className="upload nodrag" data-over={over || undefined} onDragOver={() => setOver(true)} onDragLeave={() => setOver(false)} onDrop={drop} title={t("upload.hint")}>
        {shown ? (
          <img src={address(name)} alt={t("upload.picture", { label, name })} draggable={false} onError={() => setBroken(name)} />
        ) : (
          <span>
            <Icon name="image" />
            {t("upload.hint")}
          </span>
        )}
        <input
          type="file"
          accept="image/*"
          className="hidden"
          aria-label={t("upload.button", { label })}
          onChange={(event) => {
            const file = event.target.files?.[0];
            event.target.value = "";
            if (file) void uploadInto(node.id, input.name, file);
          }}
        />
      </label>
    </>
  );
}

/** Where the picture of a name such as `folder/name.png`, or `name.png [output]`, is. */
function address(name: string): string {
  const [, path = name, type = "input"] = /^(.*?)(?: \[(input|output|temp)\])?$/.exec(name) ?? [];
  const cut = path.lastIndexOf("/");
  return api.view({ filename: path.slice(cut + 1), subfolder: cut < 0 ? "" : path.slice(0, cut), type });
}
