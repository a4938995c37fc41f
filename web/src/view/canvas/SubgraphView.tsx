import { Handle, Position, useReactFlow, useUpdateNodeInternals, type NodeProps } from "@xyflow/react";
import { memo, useEffect, useMemo } from "react";
import { useShallow } from "zustand/react/shallow";
import { changeItem } from "../../model/commands";
import { itemOf } from "../../model/items";
import { portName, portsOf, type Port } from "../../model/subgraphs";
import { inputOf } from "../../model/validation";
import { wireType } from "../../model/wires";
import { edit, useDocument } from "../../state/document";
import { useScope } from "../../state/scope";
import { t } from "../../strings";
import { colourOf } from "../colours";
import type { ItemFlowNode } from "./flow";
import { Title } from "./Title";

/** A sub-graph from outside: what it takes and gives. A double click opens it. */
export const SubgraphView = memo(function SubgraphView({ id, data: { item }, selected }: NodeProps<ItemFlowNode>) {
  const { workflow, types } = useDocument(useShallow(({ workflow, types }) => ({ workflow, types })));
  const { inputs, outputs } = useMemo(() => portsOf(workflow, id), [workflow, id]);
  const update = useUpdateNodeInternals();
  const names = [...inputs, ...outputs].map(portName).join();
  useEffect(() => update(id), [update, id, names]);
  const title = nameOf(item.data);
  const count = Object.keys(workflow.nodes).filter((node) => node.startsWith(`${id}:`)).length;
  const output = (port: Port) => wireType(workflow, types, { source: port.node, output: Number(port.socket) });
  return (
    <article className="node subgraph" data-selected={selected || undefined} aria-label={t("subgraph.label", { title })} onDoubleClick={() => useScope.setState({ scope: id })}>
      <header className="head">
        <Title id={id} className="name" title={title} label={title} set={(text) => edit(changeItem(id, { title: text }))} />
        <span className="badge">{t("subgraph.count", { count })}</span>
      </header>
      <div className="body">
        {Array.from({ length: Math.max(inputs.length, outputs.length) }, (_, index) => {
          const [input, result] = [inputs[index], outputs[index]];
          return (
            <div className="row" key={index}>
              {input && (
                <span className="in">
                  <PortSocket port={input} side="target" type={inputOf(workflow, types, input.node, input.socket)?.type ?? "*"} />
                  {input.socket}
                </span>
              )}
              {result && (
                <span className="out">
                  {output(result).toLowerCase()}
                  <PortSocket port={result} side="source" type={output(result)} />
                </span>
              )}
            </div>
          );
        })}
      </div>
      <button className="plain open nodrag" onClick={() => useScope.setState({ scope: id })}>
        {t("subgraph.open")}
      </button>
    </article>
  );
});

function PortSocket({ port, side, type }: { port: Port; side: "source" | "target"; type: string }) {
  return (
    <Handle
      type={side}
      position={side === "source" ? Position.Right : Position.Left}
      id={`${side === "source" ? "out" : "in"}:${portName(port)}`}
      className="socket"
      isConnectable={false}
      title={type}
      style={{ background: colourOf(type) }}
    />
  );
}

function nameOf(data: { readonly [name: string]: unknown }): string {
  return String(data["title"] || data["name"] || t("subgraph.title"));
}

/** Where one is, and the ways out. */
export function Trail() {
  const scope = useScope((state) => state.scope);
  const workflow = useDocument((state) => state.workflow);
  const flow = useReactFlow();
  useEffect(() => {
    const frame = requestAnimationFrame(() => void flow.fitView({ padding: 0.12, maxZoom: 1 }));
    return () => cancelAnimationFrame(frame);
  }, [scope, flow]);
  if (!scope) return null;
  const ways: string[] = [];
  for (let end = scope.indexOf(":"); end > 0; end = scope.indexOf(":", end + 1)) ways.push(scope.slice(0, end));
  const name = (id: string) => nameOf(itemOf(workflow, id)?.data ?? {});
  return (
    <nav className="trail" aria-label={t("subgraph.trail")}>
      <button className="link" onClick={() => useScope.setState({ scope: "" })}>
        {workflow.title || t("bar.untitled")}
      </button>
      {ways
        .filter((id) => itemOf(workflow, id)?.part === "subgraphs")
        .map((id) => (
          <button key={id} className="link" onClick={() => useScope.setState({ scope: id })}>
            {name(id)}
          </button>
        ))}
      <span aria-current="location">{name(scope)}</span>
    </nav>
  );
}
