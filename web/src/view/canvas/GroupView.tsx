import { NodeResizer, type NodeProps } from "@xyflow/react";
import { memo } from "react";
import { changeItem, resizeItem } from "../../model/commands";
import { edit } from "../../state/document";
import { t, type StringKey } from "../../strings";
import type { ItemFlowNode } from "./flow";
import { Title } from "./Title";

/** The colours that groups are offered; files may have any. */
export const COLOURS: readonly { readonly label: StringKey; readonly colour: string }[] = [
  { label: "colour.blue", colour: "#3f789e" },
  { label: "colour.green", colour: "#4b8a4f" },
  { label: "colour.yellow", colour: "#b58b2a" },
  { label: "colour.red", colour: "#a1484b" },
  { label: "colour.purple", colour: "#7d5ba6" },
  { label: "colour.grey", colour: "#6b7280" },
];

/** A frame around nodes. It is taken hold of by its title; what lies in it moves along. */
export const GroupView = memo(function GroupView({ id, data: { item }, selected }: NodeProps<ItemFlowNode>) {
  const title = String(item.data["title"] ?? "");
  const colour = item.data["color"];
  const known = typeof colour === "string" && /^#[0-9a-f]{3,8}$/i.test(colour) ? colour : "#3f789e";
  return (
    <section className="group" data-selected={selected || undefined} aria-label={t("group.label", { title })} style={{ "--group": known } as object}>
      <NodeResizer
        isVisible={selected}
        minWidth={120}
        minHeight={80}
        onResizeEnd={(_, { x, y, width, height }) =>
          edit(resizeItem(id, { pos: [Math.round(x), Math.round(y)], size: [Math.round(width), Math.round(height)] }))
        }
      />
      <Title id={id} className="group-head" title={title} label={t("group.title")} set={(text) => edit(changeItem(id, { title: text }))} />
    </section>
  );
});
