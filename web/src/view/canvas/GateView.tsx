import type { NodeProps } from "@xyflow/react";
import { memo } from "react";
import { useShallow } from "zustand/react/shallow";
import { inputName, outputName } from "../../model/boundary";
import { removePort, renamePort } from "../../model/commands";
import { lead, wireType } from "../../model/wires";
import { edit, useDocument } from "../../state/document";
import { showNode, useScope } from "../../state/scope";
import { t } from "../../strings";
import { Icon } from "../icons";
import { titleOf } from "../titles";
import { REROUTE_INPUT, type GateFlowNode } from "./flow";
import { InputSocket, OutputSocket } from "./Socket";
import { Title } from "./Title";

/** The edge of an open sub-graph: what comes in from where, what goes out to where. Each name leads there. */
export const GateView = memo(function GateView({ id, data: { gate } }: NodeProps<GateFlowNode>) {
  const { workflow, types } = useDocument(useShallow(({ workflow, types }) => ({ workflow, types })));
  const scope = useScope((state) => state.scope);
  const { side, source, ends, port } = gate;
  const [first] = ends;
  const type = port?.type ?? wireType(workflow, types, source);
  const lists = side === "in" ? "inputs" : "outputs";
  const from = side === "in" ? lead(workflow, source) : source;
  const node = from && !("value" in from) ? workflow.nodes[from.source] : undefined;
  const output = (node && from && !("value" in from) && types.get(node.type)?.outputs[from.output]?.name.toLowerCase()) || type.toLowerCase();
  const name = (port ? port.name : side === "in" ? first && inputName(workflow, scope, first) : outputName(workflow, scope, source)) || output;
  const of = port ?? { index: null, ends };
  const way = (id: string, socket: string) => {
    const found = workflow.nodes[id];
    const title = found ? titleOf(found, types) : id;
    const label = t(side === "in" ? "gate.from" : "gate.to", { title, name: socket });
    return (
      <button key={`${id} ${socket}`} className="link nodrag nopan" title={label} aria-label={label} onClick={() => showNode(id)}>
        {title}
      </button>
    );
  };
  const idle = ends.length === 0 ? (side === "in" ? "gate.unused" : "gate.unusedOutside") : side === "in" && !node ? "gate.unfed" : null;
  const remove = t("gate.remove", { name });
  return (
    <aside className="gate" data-side={side} data-unused={ends.length === 0 || undefined} aria-label={t(side === "in" ? "gate.in" : "gate.out", { name })}>
      <header>
        {side === "out" && <InputSocket node={id} title={t("gate.outputs")} type={type} name={REROUTE_INPUT} />}
        <Title id={id} className="name" title={name} label={t("gate.name", { name })} set={(title) => edit(renamePort(scope, lists, of, title))} />
        <button className="plain nodrag nopan" aria-label={remove} title={remove} onClick={() => edit(removePort(scope, lists, of))}>
          <Icon name="close" />
        </button>
        {side === "in" && <OutputSocket node={id} title={t("gate.inputs")} type={type} name={name} index={0} />}
      </header>
      {idle && <p>{t(idle)}</p>}
      {!idle && (side === "in" ? node && way(node.id, output) : ends.map((end) => way(end.node, end.socket)))}
    </aside>
  );
});
