import { useReactFlow, useUpdateNodeInternals, type NodeProps } from "@xyflow/react";
import { memo, useEffect, useMemo } from "react";
import { useShallow } from "zustand/react/shallow";
import { gathered, inputName, outputName } from "../../model/boundary";
import { changeItem } from "../../model/commands";
import { itemOf } from "../../model/items";
import type { NodeRun } from "../../model/run";
import { portsOf, type BoxPort } from "../../model/ports";
import { portName } from "../../model/subgraphs";
import { inputOf } from "../../model/validation";
import { frameMode, wireType } from "../../model/wires";
import { RUN, type Link } from "../../model/workflow";
import { edit, useDocument } from "../../state/document";
import { useRun } from "../../state/run";
import { showNode, useScope } from "../../state/scope";
import { t } from "../../strings";
import { FIT } from "../motion";
import { tintOf } from "../colours";
import { nodeTitle } from "../titles";
import type { ItemFlowNode } from "./flow";
import { Badge, MODES, Picture, Progress } from "./runViews";
import { InputSocket, OutputSocket } from "./Socket";
import { Title } from "./Title";

/** A sub-graph from outside: what it takes and gives, and what a run says of all that is in it. A double click opens it. */
export const SubgraphView = memo(function SubgraphView({ id, data: { item }, selected }: NodeProps<ItemFlowNode>) {
  const { workflow, types } = useDocument(useShallow(({ workflow, types }) => ({ workflow, types })));
  const { inputs, outputs } = useMemo(() => portsOf(workflow, id), [workflow, id]);
  const inside = useMemo(() => Object.keys(workflow.nodes).filter((node) => node.startsWith(`${id}:`)), [workflow.nodes, id]);
  const known = useRun(useShallow((state) => [state.problems, ...inside.map((node) => state.nodes[node])]));
  // `known` is what it is made of, told apart by identity.
  const { run, at, problems } = useMemo(() => gathered(useRun.getState(), known.length ? inside : []), [inside, known]);
  const update = useUpdateNodeInternals();
  const names = [...inputs, ...outputs].map(portName).join();
  useEffect(() => update(id), [update, id, names]);
  const title = nameOf(item.data);
  const failed = run?.state === "failed" || problems.some((problem) => problem.severity === "error");
  const mode = frameMode(workflow, item);
  const output = (port: BoxPort): Link => ({ source: port.node, output: Number(port.socket) });
  const into = (port: BoxPort): string => port.type ?? inputOf(workflow, types, port.node, port.socket)?.type ?? "*";
  const from = (port: BoxPort): string => port.type ?? wireType(workflow, types, output(port));
  const called = (port: BoxPort): string => port.name || inputName(workflow, id, port) || port.socket;
  return (
    <article
      className="node subgraph"
      {...tintOf(item.data)}
      data-state={failed ? "failed" : run?.state}
      data-selected={selected || undefined}
      data-mode={mode === RUN ? undefined : MODES[mode]}
      aria-label={t("subgraph.label", { title })}
      onDoubleClick={() => useScope.setState({ scope: id })}
    >
      <header className="head">
        <Title id={id} className="name" title={title} label={title} set={(text) => edit(changeItem(id, { title: text }))} />
        {mode !== RUN && <span className="badge mode">{t(`node.${MODES[mode]}`)}</span>}
        {run && run.state !== "waiting" ? (
          <Inside run={run} at={at} count={inside.length} />
        ) : (
          <span className="badge">{t("subgraph.count", { count: inside.length })}</span>
        )}
      </header>
      <div className="body">
        {Array.from({ length: Math.max(inputs.length, outputs.length) }, (_, index) => {
          const [input, result] = [inputs[index], outputs[index]];
          const type = result && from(result);
          const name = result && type !== undefined ? result.name || outputName(workflow, id, output(result)) : null;
          return (
            <div className="row" key={index}>
              {input && (
                <span className="in" data-unused={unused(input) || undefined}>
                  <InputSocket node={id} title={title} type={into(input)} name={portName(input)} called={called(input)} />
                  {called(input)}
                </span>
              )}
              {result && type !== undefined && (
                <span className="out">
                  {name ?? type.toLowerCase()}
                  <OutputSocket node={id} title={title} type={type} name={name ?? type} index={portName(result)} />
                </span>
              )}
            </div>
          );
        })}
        <Picture id={at ?? id} title={title} run={run} />
        {problems.length > 0 && (
          <ul className="troubles">
            {problems.map((problem, index) => (
              <li key={index} data-severity={problem.severity}>
                <button className="link nodrag" title={t("problems.show")} onClick={() => showNode(problem.node ?? id)}>
                  {nodeTitle(problem.node ?? id)}
                </button>{" "}
                {problem.message}
              </li>
            ))}
          </ul>
        )}
      </div>
      <button className="plain open nodrag" onClick={() => useScope.setState({ scope: id })}>
        {t("subgraph.open")}
      </button>
    </article>
  );
});

/** An input that nothing inside uses. An output is there for whoever may come to use it. */
const unused = ({ index, ends }: BoxPort): boolean => index !== null && !ends.length;

/** How far all that is inside has come, and what is at work there. */
function Inside({ run, at, count }: { run: NodeRun; at: string | undefined; count: number }) {
  if (run.state !== "running") return <Badge run={run} />;
  return (
    <>
      <span className="badge">{t("subgraph.running", { title: nodeTitle(at ?? ""), value: Math.floor(run.value), count })}</span>
      <Progress run={run} />
    </>
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
    const frame = requestAnimationFrame(() => void flow.fitView(FIT));
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
