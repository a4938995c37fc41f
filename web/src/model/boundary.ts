/** Where the links of an open sub-graph come from and lead to, and what its inputs and outputs are called. */

import { itemOf } from "./items";
import { portsOf, type BoxPort } from "./ports";
import type { NodeRun, Problem, Run } from "./run";
import type { Port } from "./subgraphs";
import { declared, INSIDE, lead, stepsOf, viaOf } from "./wires";
import type { Link, Workflow } from "./workflow";

/** A port of an open sub-graph; where it declares none, one thing outside that feeds nodes inside, or one output inside that feeds nodes outside. */
export interface Gate {
  readonly side: "in" | "out";
  /** Where links from it begin: at the sub-graph's input or output, or at the output that feeds it. */
  readonly source: Link;
  /** Inputs that it feeds: inside for an "in", outside for an "out". */
  readonly ends: readonly Port[];
  readonly port?: BoxPort;
}

export const gateId = (side: "in" | "out", { source, output }: Link): string => `§${side} ${output} ${source}`;

/** The gates of a sub-graph: what it declares, then the others in the order of the nodes at their ends. */
export function gatesOf(workflow: Workflow, subgraph: string): Gate[] {
  const found = new Map<string, Gate & { readonly ends: Port[] }>();
  function add(side: Gate["side"], source: Link, port: BoxPort): void {
    const id = gateId(side, source);
    const gate = found.get(id) ?? { side, source, ends: [], ...(port.index !== null && { port }) };
    gate.ends.push(...port.ends);
    found.set(id, gate);
  }
  const { inputs, outputs } = portsOf(workflow, subgraph);
  for (const port of inputs) {
    const source = port.index === null ? workflow.nodes[port.node]?.links[port.socket] : { source: `${subgraph}:${INSIDE}`, output: port.index };
    if (source) add("in", source, port);
  }
  for (const port of outputs) add("out", { source: port.node, output: Number(port.socket) }, port);
  return [...found.values()];
}

/** What a sub-graph calls the input that a node inside is fed by; null where it has no name for it. */
export function inputName(workflow: Workflow, subgraph: string, { node, socket }: Port): string | null {
  const frame = itemOf(workflow, subgraph);
  if (!frame) return null;
  for (const step of stepsOf(workflow, viaOf(workflow, node, socket)))
    if (step.source === `${subgraph}:${INSIDE}`) return declared(frame, "inputs")[step.output]?.name || null;
  return null;
}

/** What a sub-graph calls the output that a node inside feeds; null where it has no name for it. */
export function outputName(workflow: Workflow, subgraph: string, { source, output }: Link): string | null {
  const frame = itemOf(workflow, subgraph);
  for (const { name, from } of frame ? declared(frame, "outputs") : []) {
    const found = from && lead(workflow, from);
    if (found && !("value" in found) && found.source === source && found.output === output) return name || null;
  }
  return null;
}

/** What a run tells of nodes together: those of a sub-graph as one. */
export function gathered(run: Pick<Run, "nodes" | "problems">, ids: readonly string[]): { run: NodeRun | undefined; at: string | undefined; problems: readonly Problem[] } {
  const among = new Set(ids);
  const problems = run.problems.filter(({ node }) => node !== undefined && among.has(node));
  const known = ids.flatMap((id) => (run.nodes[id] ? [[id, run.nodes[id]] as const] : []));
  if (!known.length) return { run: undefined, at: undefined, problems };
  const states = known.map(([, node]) => node.state);
  const active = known.find(([, node]) => node.state === "running");
  const over = (state: NodeRun["state"]) => state === "done" || state === "cached" || state === "skipped";
  const ended = states.filter(over).length;
  const part = active && active[1].max > 0 ? active[1].value / active[1].max : 0;
  const times = known.flatMap(([, node]) => (node.state === "done" && node.began !== undefined && node.ended !== undefined ? [node.ended - node.began] : []));
  const images = known.flatMap(([, node]) => node.images ?? []);
  const state = states.includes("failed")
    ? "failed"
    : active
      ? "running"
      : states.includes("cached") && states.every((one) => one === "cached" || one === "skipped")
        ? "cached"
        : states.every((one) => one === "skipped")
          ? "skipped"
          : states.every(over)
            ? "done"
            : "waiting";
  return {
    run: {
      state,
      value: ended + part,
      max: ids.length,
      ...(times.length && { began: 0, ended: times.reduce((sum, time) => sum + time, 0) }),
      ...(images.length && { images }),
    },
    at: active?.[0],
    problems,
  };
}
