import { NodeResizeControl, ResizeControlVariant, type NodeProps } from "@xyflow/react";
import { memo, useContext, useState } from "react";
import { useShallow } from "zustand/react/shallow";
import { collapseNodes, resizeNode, titleNode } from "../../model/commands";
import type { NodeRun, Problem } from "../../model/run";
import type { InputType, NodeTypes } from "../../model/types";
import { RUN, type GraphNode } from "../../model/workflow";
import { edit } from "../../state/document";
import { useRun } from "../../state/run";
import { t } from "../../strings";
import { Icon } from "../icons";
import { tintOf } from "../colours";
import { titleOf } from "../titles";
import { Widget } from "../widgets/Widget";
import { Far } from "./far";
import type { GraphFlowNode } from "./flow";
import { grows, LEAST_WIDTH, leastHeight, socketsOf, widgetsOf } from "./metrics";
import { Badge, MODES, Picture, Progress, Spent, Troubles } from "./runViews";
import { InputSocket, OutputSocket } from "./Socket";
import { Title } from "./Title";

/** A node: header, sockets, widgets, and what a run says of it. Drawn again only when it or its own run changes. */
export const GraphNodeView = memo(function GraphNodeView({ id, data: { node, types }, selected, height }: NodeProps<GraphFlowNode>) {
  const far = useContext(Far);
  const run = useRun((state) => state.nodes[id]);
  const problems = useRun(useShallow((state) => state.problems.filter((problem) => problem.node === id)));
  const failed = run?.state === "failed" || problems.some((problem) => problem.severity === "error");
  const title = titleOf(node, types);
  const type = types.get(node.type);
  const [stretching, setStretching] = useState(false);
  const growing = !node.collapsed && ((type && grows(type)) || (run?.images?.length ?? 0) > 0);
  const tint = tintOf(node.meta["ui"]);
  const tall = growing && node.size ? { minHeight: stretching ? "100%" : node.size[1] } : growing && stretching ? { minHeight: "100%" } : {};
  return (
    <article
      className="node"
      data-state={failed ? "failed" : run?.state}
      data-selected={selected || undefined}
      data-mode={node.mode === 0 ? undefined : MODES[node.mode]}
      data-collapsed={node.collapsed || undefined}
      aria-label={t("node.label", { title, type: node.type })}
      // From afar a box of the same size: its sockets stay where they were.
      style={{ ...tint.style, ...(far ? { height } : tall) }}
      data-tint={tint["data-tint"]}
      data-grown={(growing && !far) || undefined}
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
            onResizeEnd={(_, { width }) => edit(resizeNode(id, [Math.round(width), node.size?.[1] ?? (type ? leastHeight(type) : Math.round(height ?? 0))]))}
          />
          {growing && type && (
            <NodeResizeControl
              className="stretch-corner"
              position="bottom-right"
              minWidth={LEAST_WIDTH}
              maxWidth={1200}
              minHeight={leastHeight(type)}
              maxHeight={2400}
              onResizeStart={() => setStretching(true)}
              onResizeEnd={(_, size) => {
                setStretching(false);
                edit(resizeNode(id, [Math.round(size.width), Math.round(size.height)]));
              }}
            />
          )}
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
      {run?.state === "running" && run.began !== undefined && <Spent began={run.began} />}
      {run?.state === "running" && <Progress run={run} />}
    </header>
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
