import { NodeResizer, type NodeProps } from "@xyflow/react";
import { memo } from "react";
import { changeItem, resizeItem } from "../../model/commands";
import { edit } from "../../state/document";
import { useWriting } from "../../state/menu";
import { t } from "../../strings";
import { tintOf } from "../colours";
import { Icon } from "../icons";
import { Markdown } from "../Markdown";
import type { ItemFlowNode } from "./flow";
import { Title } from "./Title";

/** A text on the canvas, in Markdown or as it was written. A double click, Enter or the pencil edits it; Escape and a click elsewhere end that. */
export const NoteView = memo(function NoteView({ id, data: { item }, selected }: NodeProps<ItemFlowNode>) {
  const writing = useWriting((state) => state.id === id);
  const title = typeof item.data["title"] === "string" ? item.data["title"] : t("note.title");
  const text = String(item.data["text"] ?? "");
  const write = () => useWriting.setState({ id });
  return (
    <aside className="note" data-selected={selected || undefined} aria-label={title} {...tintOf(item.data)}>
      <NodeResizer
        isVisible={selected}
        minWidth={120}
        minHeight={70}
        onResizeEnd={(_, { x, y, width, height }) =>
          edit(resizeItem(id, { pos: [Math.round(x), Math.round(y)], size: [Math.round(width), Math.round(height)] }))
        }
      />
      <header>
        <Title id={id} className="name" title={title} label={title} set={(name) => edit(changeItem(id, { title: name.trim() || null }))} />
        {!writing && (
          <button className="plain nodrag" aria-label={t("note.edit", { title })} title={t("note.edit", { title })} onClick={write}>
            <Icon name="edit" />
          </button>
        )}
      </header>
      {writing ? (
        <textarea
          className="nodrag nowheel"
          autoFocus
          aria-label={t("note.text", { title })}
          placeholder={t("note.placeholder")}
          value={text}
          onBlur={() => useWriting.setState({ id: null })}
          onChange={(event) => edit(changeItem(id, { text: event.target.value }), { merge: id })}
        />
      ) : (
        // It scrolls: keys must reach it, and the wheel once it is selected.
        <div className={selected ? "text nowheel" : "text"} tabIndex={0} role="group" aria-label={t("note.text", { title })} onDoubleClick={write}>
          {item.data["markdown"] === true ? <Markdown text={text} /> : <p>{text}</p>}
          {!text && <p className="placeholder">{t("note.placeholder")}</p>}
        </div>
      )}
    </aside>
  );
});
