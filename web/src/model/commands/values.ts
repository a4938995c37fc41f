/** Commands on what nodes are set to, and on the document's own fields. */

import { isObject, type Json } from "../json";
import { big, randomWhole, whole, type Whole } from "../numbers";
import { withNode, type GraphNode, type Workflow } from "../workflow";
import type { Command } from "./command";

export type Control = "fixed" | "increment" | "decrement" | "randomize";

export function setValue(id: string, input: string, value: Json): Command {
  return (workflow) =>
    withNode(workflow, id, (node) =>
      node.values[input] === value ? node : { ...node, values: { ...node.values, [input]: value } },
    );
}

export function setTitle(title: string): Command {
  return (workflow) => (workflow.title === title ? workflow : { ...workflow, title });
}

/** What happens to a seed after each run. */
export function controlOf(node: GraphNode, input: string): Control {
  const ui = node.meta["ui"];
  const control = isObject(ui) && isObject(ui["control"]) ? ui["control"][input] : undefined;
  return control === "increment" || control === "decrement" || control === "randomize" ? control : "fixed";
}

export function setControl(id: string, input: string, control: Control): Command {
  return (workflow) =>
    withNode(workflow, id, (node) => {
      const ui = isObject(node.meta["ui"]) ? node.meta["ui"] : {};
      const controls = isObject(ui["control"]) ? ui["control"] : {};
      return { ...node, meta: { ...node.meta, ui: { ...ui, control: { ...controls, [input]: control } } } };
    });
}

/** Move every seed on as its control says. */
export function advanceSeeds(): Command {
  return (workflow, types) => {
    let found: Workflow = workflow;
    for (const node of Object.values(workflow.nodes)) {
      for (const input of types.get(node.type)?.inputs ?? []) {
        const value = node.values[input.name];
        if (!input.control || input.name in node.links || (typeof value !== "number" && typeof value !== "bigint"))
          continue;
        const next = advanced(value, controlOf(node, input.name), input.max ?? 2n ** 64n - 1n);
        found = setValue(node.id, input.name, next)(found, types);
      }
    }
    return found;
  };
}

function advanced(value: Whole, control: Control, max: Whole): Whole {
  if (control === "randomize") return randomWhole(max);
  if (control === "increment") return big(value) < big(max) ? whole(big(value) + 1n) : 0;
  if (control === "decrement") return big(value) > 0n ? whole(big(value) - 1n) : max;
  return value;
}
