import type { NodeProps } from "@xyflow/react";
import { memo } from "react";
import { useShallow } from "zustand/react/shallow";
import { inputName, outputName } from "../../model/boundary";
import { wireType } from "../../model/wires";
import { useDocument } from "../../state/document";
import { showNode, useScope } from "../../state/scope";
import { t } from "../../strings";
import { titleOf } from "../titles";
import { REROUTE_INPUT, type GateFlowNode } from "./flow";
import { InputSocket, OutputSocket } from "./Socket";

/** The edge of an open sub-graph: what comes in from where, what goes out to where. Each name leads there. */
export const GateView = memo(function GateView({ id, data: { gate } }: NodeProps<GateFlowNode>) {
  const { workflow, types } = useDocument(useShallow(({ workflow, types }) => ({ workflow, types })));
  const scope = useScope((state) => state.scope);
  const { side, source, ends } = gate;
  const [first] = ends;
  const type = wireType(workflow, types, source);
  const from = workflow.nodes[source.source];
  const output = (from && types.get(from.type)?.outputs[source.output]?.name.toLowerCase()) ?? type.toLowerCase();
  const name = (side === "in" ? first && inputName(workflow, scope, first) : outputName(workflow, scope, source)) ?? output;
  const way = (node: string, socket: string) => {
    const found = workflow.nodes[node];
    const title = found ? titleOf(found, types) : node;
    const label = t(side === "in" ? "gate.from" : "gate.to", { title, name: socket });
    return (
      <button key={`${node} ${socket}`} className="link nodrag nopan" title={label} aria-label={label} onClick={() => showNode(node)}>
        {title}
      </button>
    );
  };
  return (
    <aside className="gate" data-side={side} aria-label={t(side === "in" ? "gate.in" : "gate.out", { name })}>
      <header>
        {side === "out" && <InputSocket node={id} title={t("gate.outputs")} type={type} name={REROUTE_INPUT} />}
        {name}
        {side === "in" && <OutputSocket node={id} title={t("gate.inputs")} type={type} name={name} index={0} />}
      </header>
      {side === "in" ? way(source.source, output) : ends.map(({ node, socket }) => way(node, socket))}
    </aside>
  );
});
