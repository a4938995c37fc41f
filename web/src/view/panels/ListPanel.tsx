import { useReactFlow } from "@xyflow/react";
import { useMemo, useState } from "react";
import { cutWire, wireUp } from "../../model/commands";
import { inOrder } from "../../model/order";
import { connectable } from "../../model/validation";
import type { InputType } from "../../model/types";
import type { GraphNode, Link, Workflow } from "../../model/workflow";
import { edit, useDocument } from "../../state/document";
import { useRun } from "../../state/run";
import { showNode } from "../../state/scope";
import { t } from "../../strings";
import { focusNode } from "../canvas/keyboard";
import { Icon } from "../icons";
import { titleOf } from "../titles";

/** The graph in words: its nodes in the order of a run, and what feeds each of their inputs, which can be chosen. */
export function ListPanel() {
  const workflow = useDocument((state) => state.workflow);
  const nodes = useMemo(() => inOrder(workflow), [workflow]);
  if (!nodes.length) return <p className="empty">{t("list.empty")}</p>;
  return (
    <ol className="list">
      {nodes.map((node) => (
        <Entry key={node.id} node={node} workflow={workflow} />
      ))}
    </ol>
  );
}

const STATES = {
  waiting: "list.waiting",
  skipped: "node.skipped",
  running: "node.running",
  cached: "node.cached",
  done: "list.done",
  failed: "run.failed",
} as const;

function Entry({ node, workflow }: { node: GraphNode; workflow: Workflow }) {
  const [open, setOpen] = useState(false);
  const flow = useReactFlow();
  const types = useDocument((state) => state.types);
  const state = useRun((run) => run.nodes[node.id]?.state);
  const title = titleOf(node, types);
  const inputs = types.get(node.type)?.inputs ?? [];
  return (
    <li>
      <button className="entry" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Icon name="chevron" />
        {title}
        {state && <span className="more"> {t(STATES[state])}</span>}
      </button>
      {open && (
        <>
          {inputs.map((input) =>
            input.widget === null || input.name in node.links ? (
              <Source key={input.name} node={node} input={input} title={title} workflow={workflow} />
            ) : null,
          )}
          <button className="button" onClick={() => {
              showNode(node.id);
              focusNode(flow, node.id);
            }}>
            {t("list.show", { title })}
          </button>
        </>
      )}
    </li>
  );
}

const keyOf = (link: Link): string => `${link.output} ${link.source}`;

interface SourceProps {
  readonly node: GraphNode;
  readonly input: InputType;
  readonly title: string;
  readonly workflow: Workflow;
}

/** What feeds an input, of all that may. */
function Source({ node, input, title, workflow }: SourceProps) {
  const types = useDocument((state) => state.types);
  const now = node.links[input.name];
  const offered: { link: Link; name: string }[] = [];
  for (const other of Object.values(workflow.nodes)) {
    types.get(other.type)?.outputs.forEach(({ name }, output) => {
      const link = { source: other.id, output };
      if ((now && keyOf(now) === keyOf(link)) || connectable(workflow, types, link, node.id, input.name))
        offered.push({ link, name: t("list.output", { title: titleOf(other, types), id: other.id, name }) });
    });
  }
  return (
    <label className="source">
      <span>{input.name}</span>
      <select
        className="field"
        aria-label={t("list.source", { name: input.name, title })}
        value={now ? keyOf(now) : ""}
        onChange={(event) => {
          const chosen = offered.find(({ link }) => keyOf(link) === event.target.value);
          edit(chosen ? wireUp(chosen.link, node.id, input.name) : cutWire(node.id, input.name));
        }}
      >
        <option value="">{t("list.nothing")}</option>
        {offered.map(({ link, name }) => (
          <option key={keyOf(link)} value={keyOf(link)}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}
