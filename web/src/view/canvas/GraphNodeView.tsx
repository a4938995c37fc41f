import { NodeResizeControl, ResizeControlVariant, type NodeProps } from "@xyflow/react";
import { memo, useContext } from "react";
import { useShallow } from "zustand/react/shallow";
import { api } from "../../api/client";
import { collapseNodes, resizeNode, titleNode } from "../../model/commands";
import { isActive, type NodeRun, type Problem } from "../../model/run";
import type { InputType, NodeTypes } from "../../model/types";
import { BYPASSED, MUTED, RUN, type GraphNode } from "../../model/workflow";
import { edit } from "../../state/document";
import { useRun } from "../../state/run";
import { useUi } from "../../state/ui";
import { t } from "../../strings";
import { Icon } from "../icons";
import { titleOf } from "../titles";
import { Widget } from "../widgets/Widget";
import { Far } from "./far";
import type { GraphFlowNode } from "./flow";
import { LEAST_WIDTH, socketsOf, widgetsOf } from "./metrics";
import { InputSocket, OutputSocket } from "./Socket";
import { Title } from "./Title";

const MODES = { [MUTED]: "muted", [BYPASSED]: "bypassed" } as const;

/** A node: header, sockets, widgets, and what a run says of it. Drawn again only when it or its own run changes. */
export const GraphNodeView = memo(function GraphNodeView({ id, data: { node, types }, selected, height }: NodeProps<GraphFlowNode>) {
  const far = useContext(Far);
  const run = useRun((state) => state.nodes[id]);
  const problems = useRun(useShallow((state) => state.problems.filter((problem) => problem.node === id)));
  const failed = run?.state === "failed" || problems.some((problem) => problem.severity === "error");
  const title = titleOf(node, types);
  const type = types.get(node.type);
  return (
    <article
      className="node"
      data-state={failed ? "failed" : run?.state}
      data-selected={selected || undefined}
      data-mode={node.mode === 0 ? undefined : MODES[node.mode]}
      data-collapsed={node.collapsed || undefined}
      aria-label={t("node.label", { title, type: node.type })}
      // From afar a box of the same size: its sockets stay where they were.
      style={far ? { height } : undefined}
    >
      {far ? (
        <span className="name">{title}</span>
      ) : (
        <>
          <NodeResizeControl
            className="stretch"
            position="right"
            variant={ResizeControlVariant.Line}
            resizeDirection="horizontal"
            minWidth={LEAST_WIDTH}
            maxWidth={1200}
            onResizeEnd={(_, { width, height }) => edit(resizeNode(id, [Math.round(width), Math.round(node.size?.[1] ?? height)]))}
          />
          <Header node={node} title={title} run={run} />
          <div className="body">
            {type ? <Sockets node={node} types={types} title={title} problems={problems} /> : <p className="unknown">{t("node.unknown")}</p>}
            <Picture id={id} title={title} run={run} />
            <Troubles problems={problems} inputs={type?.inputs ?? []} />
          </div>
        </>
      )}
    </article>
  );
});

function Header({ node, title, run }: { node: GraphNode; title: string; run: NodeRun | undefined }) {
  const fold = t(node.collapsed ? "node.expand" : "node.collapse", { title });
  return (
    <header className="head">
      <button
        className="plain fold nodrag"
        // By keys a shortcut does it: the first stop in a node is a socket.
        tabIndex={-1}
        aria-expanded={!node.collapsed}
        aria-label={fold}
        title={fold}
        onClick={() => edit(collapseNodes([node.id], !node.collapsed))}
      >
        <Icon name="chevron" />
      </button>
      <Title id={node.id} className="name" title={title} label={title} hint={node.type} set={(text) => edit(titleNode(node.id, text))} />
      {node.mode !== RUN && <span className="badge mode">{t(`node.${MODES[node.mode]}`)}</span>}
      {run && <Badge run={run} />}
      {run?.state === "running" && <Progress run={run} />}
    </header>
  );
}

function Badge({ run }: { run: NodeRun }) {
  if (run.state === "cached") return <span className="badge">{t("node.cached")}</span>;
  if (run.state === "running")
    return <span className="badge">{run.max > 1 ? t("node.step", { value: run.value, max: run.max }) : t("node.running")}</span>;
  if (run.state === "done" && run.began !== undefined && run.ended !== undefined)
    return <span className="badge">{seconds(run.ended - run.began)}</span>;
  return null;
}

function seconds(milliseconds: number): string {
  return milliseconds < 100 ? t("node.quick") : t("node.seconds", { seconds: (milliseconds / 1000).toFixed(1) });
}

function Progress({ run }: { run: NodeRun }) {
  const known = run.max > 1;
  const part = known ? run.value / run.max : 1;
  return (
    <i
      className="progress"
      role="progressbar"
      aria-label={t("node.running")}
      aria-valuemin={0}
      aria-valuemax={run.max}
      {...(known && { "aria-valuenow": run.value })}
      data-unknown={!known || undefined}
      style={{ transform: `scaleX(${part})` }}
    />
  );
}

interface SocketsProps {
  readonly node: GraphNode;
  readonly types: NodeTypes;
  readonly title: string;
  readonly problems: readonly Problem[];
}

function Sockets({ node, types, title, problems }: SocketsProps) {
  const type = types.get(node.type);
  if (!type) return null;
  const inputs = socketsOf(type);
  const rows = Math.max(inputs.length, type.outputs.length);
  const troubled = (input: InputType) => problems.some((problem) => problem.input === input.name);
  return (
    <>
      {Array.from({ length: rows }, (_, index) => {
        const input = inputs[index];
        const output = type.outputs[index];
        return (
          <div className="row" key={index}>
            {input && (
              <span className="in" data-troubled={troubled(input) || undefined} data-optional={!input.required || undefined}>
                <InputSocket node={node.id} title={title} type={input.type} name={input.name} />
                {input.name}
              </span>
            )}
            {output && (
              <span className="out">
                {output.name.toLowerCase()}
                <OutputSocket node={node.id} title={title} type={output.type} name={output.name} index={index} />
              </span>
            )}
          </div>
        );
      })}
      {widgetsOf(type).map((input) => (
        <div className="row widget" key={input.name} data-kind={input.widget} data-troubled={troubled(input) || undefined}>
          <InputSocket node={node.id} title={title} type={input.type} name={input.name} />
          <Widget node={node} input={input} title={title} />
        </div>
      ))}
    </>
  );
}

function Picture({ id, title, run }: { id: string; title: string; run: NodeRun | undefined }) {
  const preview = useRun((state) => (isActive(state) ? state.previews[id] : undefined));
  const image = run?.images?.at(-1);
  if (preview !== undefined && run?.state === "running")
    return <img className="shown" src={preview} alt={t("node.preview", { title })} draggable={false} />;
  if (!image) return null;
  return (
    <button className="plain nodrag" onClick={() => useUi.setState({ viewer: image })}>
      <img className="shown" src={api.view(image)} alt={t("node.result", { title })} draggable={false} />
    </button>
  );
}

/** What is wrong, on the node itself; where it names an input, that row is marked as well. */
function Troubles({ problems, inputs }: { problems: readonly Problem[]; inputs: readonly InputType[] }) {
  if (!problems.length) return null;
  return (
    <ul className="troubles">
      {problems.map((problem, index) => (
        <li key={index} data-severity={problem.severity}>
          {inputs.some((input) => input.name === problem.input) && <b>{problem.input}: </b>}
          {problem.message} {problem.hint}
        </li>
      ))}
    </ul>
  );
}
