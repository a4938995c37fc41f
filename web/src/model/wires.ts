/** Where the links of the canvas come from and lead to: through reroutes and sub-graphs, from primitives, as `canvas.via` says. */

import { readLink } from "./document";
import { itemOf, type Item } from "./items";
import { isObject, type Json, type JsonObject } from "./json";
import { assignable, type NodeTypes } from "./types";
import { outputType, reaches } from "./validation";
import { BYPASSED, MUTED, RUN, sameJson, type Link, type Mode, type Workflow } from "./workflow";

/** What stands, inside a sub-graph, for its inputs; and for its outputs. */
export const INSIDE = "-10";
export const OUTSIDE = "-20";

interface Declared {
  readonly name: string;
  readonly type: string;
  readonly from: Link | null;
}

/** The inputs or outputs that a sub-graph says it has. */
export function declared(subgraph: Item, side: "inputs" | "outputs"): readonly Declared[] {
  const list = subgraph.data[side];
  return (Array.isArray(list) ? (list as readonly Json[]) : []).map((item) => {
    const { name, type, from } = isObject(item) ? item : {};
    return { name: String(name ?? ""), type: typeof type === "string" ? type : "*", from: readLink(from ?? null) };
  });
}

/** The sub-graph for whose inputs, or outputs, an id stands. */
export function behind(workflow: Workflow, id: string, end = INSIDE): Item | undefined {
  const item = id.endsWith(`:${end}`) ? itemOf(workflow, id.slice(0, -end.length - 1)) : undefined;
  return item?.part === "subgraphs" ? item : undefined;
}

function before(workflow: Workflow, { source, output }: Link): Link | null {
  const item = itemOf(workflow, source);
  if (item?.part === "reroutes") return readLink(item.data["from"] ?? null);
  if (item?.part === "subgraphs") return frameMode(workflow, item) === BYPASSED ? past(workflow, item, output) : (declared(item, "outputs")[output]?.from ?? null);
  const around = behind(workflow, source);
  const port = around && declared(around, "inputs")[output];
  return port ? saidVia(workflow, around.key, port.name) : null;
}

/** What a sub-graph is as a whole: muted or bypassed as long as none of its nodes runs. */
export function frameMode(workflow: Workflow, { key, part, data }: Item): Mode {
  const { mode } = data;
  if (part !== "subgraphs" || (mode !== MUTED && mode !== BYPASSED)) return RUN;
  return Object.values(workflow.nodes).every((node) => node.mode === MUTED || !node.id.startsWith(`${key}:`)) ? mode : RUN;
}

/** What takes the place of an output of a bypassed sub-graph. */
function past(workflow: Workflow, item: Item, output: number): Link | null {
  const inputs = declared(item, "inputs");
  const wanted = declared(item, "outputs")[output]?.type ?? "*";
  for (const port of [...inputs.slice(output, output + 1), ...inputs]) {
    const wire = assignable(port.type, wanted) ? saidVia(workflow, item.key, port.name) : null;
    if (wire) return wire;
  }
  return null;
}

/** A link on the canvas and what is before it, back to a node, a primitive or nowhere: through reroutes, into and out of sub-graphs. */
export function* stepsOf(workflow: Workflow, wire: Link | null): Generator<Link> {
  const seen = new Set<string>();
  for (let step = wire; step; step = before(workflow, step)) {
    const key = `${step.output} ${step.source}`;
    if (seen.has(key)) return;
    seen.add(key);
    yield step;
    if (step.source in workflow.nodes) return;
  }
}

/** What a link on the canvas leads to: a node's output, the value of a primitive or of a sub-graph's own widget, or nothing. */
export function lead(workflow: Workflow, wire: Link | null): Link | { readonly value: Json } | null {
  let last: Link | null = null;
  for (last of stepsOf(workflow, wire)) if (last.source in workflow.nodes) return last;
  if (!last) return null;
  const item = itemOf(workflow, last.source);
  if (item?.part === "primitives") return { value: item.data["value"] ?? null };
  const around = behind(workflow, last.source);
  const name = around && declared(around, "inputs")[last.output]?.name;
  const values = around?.data["values"];
  const value = name !== undefined && isObject(values) ? values[name] : undefined;
  return value === undefined ? null : { value };
}

/** The type of what a link on the canvas carries; what the sub-graph says, or `*`, where it comes from nowhere. */
export function wireType(workflow: Workflow, types: NodeTypes, wire: Link): string {
  const found = lead(workflow, wire);
  if (!found) {
    const [frame, around] = [itemOf(workflow, wire.source), behind(workflow, wire.source)];
    const ports = frame ? declared(frame, "outputs") : around ? declared(around, "inputs") : [];
    return ports[wire.output]?.type ?? "*";
  }
  if (!("value" in found)) return outputType(workflow, types, found);
  const { value } = found;
  if (typeof value === "bigint" || Number.isInteger(value)) return "INT";
  if (typeof value === "number") return "FLOAT";
  return typeof value === "boolean" ? "BOOLEAN" : "STRING";
}

/** All that the canvas says of where links come from, by what they lead to and its input. */
export function vias(workflow: Workflow): JsonObject {
  const { canvas } = workflow.extra;
  return isObject(canvas) && isObject(canvas["via"]) ? canvas["via"] : {};
}

/** What the canvas says that an input's link comes from, whether or not it still holds. */
export function saidVia(workflow: Workflow, target: string, input: string): Link | null {
  const via = vias(workflow)[target];
  return isObject(via) ? readLink(via[input] ?? null) : null;
}

/** Whether a link begins at something of the canvas that is there. */
function begins(workflow: Workflow, { source, output }: Link): boolean {
  const item = itemOf(workflow, source);
  if (item) return output < (item.part === "subgraphs" ? declared(item, "outputs").length : 1);
  const around = behind(workflow, source);
  return around !== undefined && output < declared(around, "inputs").length;
}

/** The item that an input's link comes from on the canvas, fed or not; null where that is the node itself. */
export function viaOf(workflow: Workflow, target: string, input: string): Link | null {
  const node = workflow.nodes[target];
  const wire = saidVia(workflow, target, input);
  if (!node || !wire || wire.source in workflow.nodes) return null;
  const found = lead(workflow, wire);
  const link = node.links[input];
  if (!found) return !link && begins(workflow, wire) ? wire : null;
  if ("value" in found) return !link && sameJson(found.value, node.values[input]) ? wire : null;
  // What would wait for itself past a bypassed sub-graph is fed by nothing as long as that is bypassed.
  if (!link) return leadsPast(workflow, wire) && reaches(workflow, found.source, target) ? wire : null;
  return link.source === found.source && link.output === found.output ? wire : null;
}

/** Whether a link on the canvas leads past a bypassed sub-graph. */
function leadsPast(workflow: Workflow, wire: Link): boolean {
  for (const { source } of stepsOf(workflow, wire)) {
    const item = itemOf(workflow, source);
    if (item && frameMode(workflow, item) === BYPASSED) return true;
  }
  return false;
}

/** The inputs of a node that the canvas speaks of. */
export function viaInputs(workflow: Workflow, target: string): string[] {
  const via = vias(workflow)[target];
  return isObject(via) ? Object.keys(via) : [];
}

/** Inputs that come, through however many reroutes, from an item, or from one of its outputs. */
export function fedBy(workflow: Workflow, key: string, output?: number): { target: string; input: string }[] {
  return Object.keys(workflow.nodes).flatMap((target) =>
    viaInputs(workflow, target)
      .filter((input) => passes(workflow, viaOf(workflow, target, input), key, output))
      .map((input) => ({ target, input })),
  );
}

export function passes(workflow: Workflow, wire: Link | null, key: string, output?: number): boolean {
  for (const step of stepsOf(workflow, wire)) if (step.source === key && (output === undefined || step.output === output)) return true;
  return false;
}
