/** What may be connected, and what is wrong that can be seen without the server. */

import { assignable, type InputType, type NodeTypes } from "./types";
import type { Link, Workflow } from "./workflow";

/** The type of an output; `*` where the node's type is not known. */
export function outputType(workflow: Workflow, types: NodeTypes, link: Link): string {
  const node = workflow.nodes[link.source];
  return (node && types.get(node.type)?.outputs[link.output]?.type) ?? "*";
}

export function inputOf(workflow: Workflow, types: NodeTypes, id: string, name: string): InputType | undefined {
  const node = workflow.nodes[id];
  return node && types.get(node.type)?.inputs.find((input) => input.name === name);
}

/** Whether a link may be made: both ends are there, the types fit, and no node comes to wait for itself. */
export function connectable(workflow: Workflow, types: NodeTypes, link: Link, target: string, input: string): boolean {
  const source = workflow.nodes[link.source];
  const known = source && types.get(source.type);
  if (!known || link.output >= known.outputs.length || !workflow.nodes[target]) return false;
  const taking = inputOf(workflow, types, target, input);
  if (!taking || !assignable(outputType(workflow, types, link), taking.type)) return false;
  return !reaches(workflow, link.source, target);
}

/** Whether `id` needs `ancestor`, directly or through others, or is it. */
export function reaches(workflow: Workflow, id: string, ancestor: string): boolean {
  const waiting = [id];
  const seen = new Set(waiting);
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    if (next === ancestor) return true;
    for (const link of Object.values(workflow.nodes[next]?.links ?? {})) {
      if (!seen.has(link.source)) {
        seen.add(link.source);
        waiting.push(link.source);
      }
    }
  }
  return false;
}
