/** Where the links of the canvas come from and lead to: through reroutes, from primitives, as `canvas.via` says. */

import { readLink } from "./document";
import { itemOf } from "./items";
import { isObject, type Json } from "./json";
import type { NodeTypes } from "./types";
import { outputType } from "./validation";
import { sameJson, type Link, type Workflow } from "./workflow";

/** What a link on the canvas leads to: a node's output, a primitive's value, or nothing. */
export function lead(workflow: Workflow, wire: Link | null): Link | { readonly value: Json } | null {
  const seen = new Set<string>();
  for (let step = wire; step && !seen.has(step.source); ) {
    if (step.source in workflow.nodes) return step;
    seen.add(step.source);
    const item = itemOf(workflow, step.source);
    if (item?.part === "primitives") return { value: item.data["value"] ?? null };
    step = item?.part === "reroutes" ? readLink(item.data["from"] ?? null) : null;
  }
  return null;
}

/** The type of what a link on the canvas carries; `*` where it comes from nowhere. */
export function wireType(workflow: Workflow, types: NodeTypes, wire: Link): string {
  const found = lead(workflow, wire);
  if (!found) return "*";
  if (!("value" in found)) return outputType(workflow, types, found);
  const { value } = found;
  if (typeof value === "bigint" || Number.isInteger(value)) return "INT";
  if (typeof value === "number") return "FLOAT";
  return typeof value === "boolean" ? "BOOLEAN" : "STRING";
}

/** What the canvas says that an input's link comes from, whether or not it still holds. */
export function saidVia(workflow: Workflow, target: string, input: string): Link | null {
  const { canvas } = workflow.extra;
  const via = isObject(canvas) && isObject(canvas["via"]) ? canvas["via"][target] : undefined;
  return isObject(via) ? readLink(via[input] ?? null) : null;
}

/** The item that an input's link comes from on the canvas; null where that is the node itself, or where nothing feeds it. */
export function viaOf(workflow: Workflow, target: string, input: string): Link | null {
  const node = workflow.nodes[target];
  const wire = saidVia(workflow, target, input);
  if (!node || !wire || wire.source in workflow.nodes) return null;
  const found = lead(workflow, wire);
  if (!found) return null;
  const link = node.links[input];
  if ("value" in found) return !link && sameJson(found.value, node.values[input]) ? wire : null;
  return link && link.source === found.source && link.output === found.output ? wire : null;
}

/** The inputs of a node that the canvas speaks of. */
export function viaInputs(workflow: Workflow, target: string): string[] {
  const { canvas } = workflow.extra;
  const via = isObject(canvas) && isObject(canvas["via"]) ? canvas["via"][target] : undefined;
  return isObject(via) ? Object.keys(via) : [];
}

/** Inputs that come, through however many reroutes, from an item. */
export function fedBy(workflow: Workflow, key: string): { target: string; input: string }[] {
  return Object.keys(workflow.nodes).flatMap((target) =>
    viaInputs(workflow, target)
      .filter((input) => passes(workflow, viaOf(workflow, target, input), key))
      .map((input) => ({ target, input })),
  );
}

function passes(workflow: Workflow, wire: Link | null, key: string): boolean {
  const seen = new Set<string>();
  for (let step = wire; step && !seen.has(step.source); ) {
    if (step.source === key) return true;
    seen.add(step.source);
    const item = itemOf(workflow, step.source);
    step = item?.part === "reroutes" ? readLink(item.data["from"] ?? null) : null;
  }
  return false;
}
