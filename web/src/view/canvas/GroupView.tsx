import { NodeResizer, type NodeProps } from "@xyflow/react";
import { memo } from "react";
import { changeItem, resizeItem } from "../../model/commands";
import { edit } from "../../state/document";
import { t } from "../../strings";
import { safeColour } from "../colours";
import type { ItemFlowNode } from "./flow";
import { Title } from "./Title";

/** A frame around nodes. It is taken hold of by its title; what lies in it moves along. */
export const GroupView = memo(function GroupView({ id, data: { item }, selected }: NodeProps<ItemFlowNode>) {
  const title = String(item.data["title"] ?? "");
  const known = safeColour(item.data["color"]) ?? "#3f789e";
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
