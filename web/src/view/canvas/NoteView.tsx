import { NodeResizer, type NodeProps } from "@xyflow/react";
import { memo } from "react";
import { changeItem, resizeItem } from "../../model/commands";
import { edit } from "../../state/document";
import { t } from "../../strings";
import type { ItemFlowNode } from "./flow";

/** A text on the canvas. Markdown is shown as it was written. */
export const NoteView = memo(function NoteView({ id, data: { item }, selected }: NodeProps<ItemFlowNode>) {
  const title = typeof item.data["title"] === "string" ? item.data["title"] : t("note.title");
  return (
    <aside className="note" data-selected={selected || undefined} aria-label={title}>
      <NodeResizer
        isVisible={selected}
        minWidth={120}
        minHeight={70}
        onResizeEnd={(_, { x, y, width, height }) =>
          edit(resizeItem(id, { pos: [Math.round(x), Math.round(y)], size: [Math.round(width), Math.round(height)] }))
        }
      />
      <header>{title}</header>
      <textarea
        className="nodrag nowheel"
        aria-label={t("note.text", { title })}
        placeholder={t("note.placeholder")}
        value={String(item.data["text"] ?? "")}
        onChange={(event) => edit(changeItem(id, { text: event.target.value }), { merge: id })}
      />
    </aside>
  );
});
