import { api, ServerError } from "../../api/client";
import { useUi } from "../../state/ui";
import { t } from "../../strings";
import { ChoiceWidget } from "./choice";
import type { WidgetProps } from ".";

/** A picture of the input folder, or a new one that is uploaded into it. */
export function ImageWidget(props: WidgetProps) {
  async function upload(file: File): Promise<void> {
    try {
      props.set(await api.upload(file));
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      useUi.getState().tell(t("upload.failed", { reason: error.message }));
    }
  }
  return (
    <>
      <ChoiceWidget {...props} />
      <label className="button upload nodrag">
        {t("upload.button")}
        <input
          type="file"
          accept="image/*"
          className="hidden"
          onChange={(event) => {
            const file = event.target.files?.[0];
            if (file) void upload(file);
          }}
        />
      </label>
    </>
  );
}
