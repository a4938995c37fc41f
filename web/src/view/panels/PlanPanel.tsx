import { useCallback } from "react";
import { useShallow } from "zustand/react/shallow";
import { api, ServerError, type Plan, type PlanRow } from "../../api/client";
import { writeWorkflow } from "../../model/document";
import type { GraphNode, Workflow } from "../../model/workflow";
import { useDocument } from "../../state/document";
import { showNode } from "../../state/scope";
import { t, type StringKey } from "../../strings";
import { Icon } from "../icons";
import { nodeTitle } from "../titles";
import { useFresh } from "./fresh";

const GROUPS: readonly { states: readonly string[]; title: StringKey }[] = [
  { states: ["run"], title: "plan.run" },
  { states: ["lazy"], title: "plan.lazy" },
  { states: ["cached"], title: "plan.cached" },
  { states: ["unneeded"], title: "plan.unneeded" },
];

/** What a run of a workflow would do; where no output can run, what is wrong. */
async function planOf(workflow: Workflow): Promise<Plan> {
  try {
    return await api.plan(writeWorkflow(workflow));
  } catch (error) {
    if (error instanceof ServerError && error.problems.length) return { rows: [], problems: error.problems };
    throw error;
  }
}

/** What a run would do now, and why. */
export function PlanPanel() {
  // Places and titles change no plan: it is asked for again only where something else did.
  const parts = useDocument(useShallow(({ workflow }) => Object.values(workflow.nodes).flatMap(partsOf)));
  const load = useCallback(() => {
    void parts;
    return planOf(useDocument.getState().workflow);
  }, [parts]);
  const { data, error } = useFresh(load);
  if (error !== null)
    return (
      <div className="empty">
        <Icon name="list" />
        <p>{error}</p>
      </div>
    );
  if (!data) return <p className="wait">{t("plan.asking")}</p>;
  const runs = data.rows.filter((row) => row.state === "run").length;
  return (
    <div className="lists plan">
      <p className="summary" role="status">
        {data.rows.length > 0 && (runs ? t("plan.summary", { count: runs, all: data.rows.length }) : t("plan.nothing"))}
      </p>
      {data.problems.map((problem, index) => (
        <p key={index} className="notice" data-severity={problem.severity}>
          {problem.node !== undefined && <b>{nodeTitle(problem.node)}: </b>}
          {problem.message}
        </p>
      ))}
      {GROUPS.map(({ states, title }) => (
        <Group key={title} title={t(title)} rows={data.rows.filter((row) => states.includes(row.state))} />
      ))}
    </div>
  );
}

function partsOf(node: GraphNode): unknown[] {
  return [node.id, node.type, node.mode, node.values, node.links];
}

function Group({ title, rows }: { title: string; rows: readonly PlanRow[] }) {
  if (!rows.length) return null;
  return (
    <section aria-label={title}>
      <h3>
        {title} <span>{rows.length}</span>
      </h3>
      <ul>
        {rows.map((row) => (
          <li key={row.node} data-state={row.state}>
            <button className="link" title={t("problems.show")} onClick={() => showNode(row.node)}>
              {nodeTitle(row.node)}
            </button>
            <span>{row.text}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}
