/** What a link may go through or come from besides nodes. */

import { type NodeProps } from "@xyflow/react";
import { memo } from "react";
import { setPrimitive } from "../../model/commands";
import type { Json } from "../../model/json";
import { parseNumber, parseWhole } from "../../model/numbers";
import { wireType } from "../../model/wires";
import { edit, useDocument } from "../../state/document";
import { t } from "../../strings";
import { tintOf } from "../colours";
import { REROUTE_INPUT, type ItemFlowNode } from "./flow";
import { InputSocket, OutputSocket } from "./Socket";

/** A point that a link goes through. */
export const RerouteView = memo(function RerouteView({ id, selected }: NodeProps<ItemFlowNode>) {
  const type = useDocument(({ workflow, types }) => wireType(workflow, types, { source: id, output: 0 }));
  const title = t("reroute.title");
  return (
    <div className="reroute" data-selected={selected || undefined} aria-label={t("reroute.label", { type })} title={type}>
      <InputSocket node={id} title={title} type={type} name={REROUTE_INPUT} />
      <OutputSocket node={id} title={title} type={type} name={type} index={0} />
    </div>
  );
});

/** One value that feeds several inputs. */
export const PrimitiveView = memo(function PrimitiveView({ id, data: { item }, selected }: NodeProps<ItemFlowNode>) {
  const type = useDocument(({ workflow, types }) => wireType(workflow, types, { source: id, output: 0 }));
  const title = typeof item.data["title"] === "string" ? item.data["title"] : t("primitive.title");
  const value = item.data["value"] ?? null;
  const set = (next: Json | null) => next !== null && edit(setPrimitive(id, next), { merge: id });
  const label = t("primitive.value", { title });
  return (
    <div className="primitive" {...tintOf(item.data)} data-selected={selected || undefined} aria-label={title}>
      <header>{title}</header>
      <div className="row widget">
        {type === "BOOLEAN" ? (
          <input type="checkbox" role="switch" className="switch nodrag" aria-label={label} checked={value === true} onChange={(event) => set(event.target.checked)} />
        ) : (
          <input
            className="field nodrag"
            aria-label={label}
            key={String(value)}
            defaultValue={String(value ?? "")}
            onBlur={(event) => set(typed(event.target.value, type))}
            onKeyDown={(event) => event.key === "Enter" && set(typed(event.currentTarget.value, type))}
          />
        )}
        <OutputSocket node={id} title={title} type={type} name={type} index={0} />
      </div>
    </div>
  );
});

/** What was typed, of the kind that the value was; null where it is none of that kind. */
function typed(text: string, type: string): Json | null {
  if (type === "INT") return parseWhole(text) ?? parseNumber(text);
  return type === "FLOAT" ? parseNumber(text) : text;
}
