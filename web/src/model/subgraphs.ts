/** Sub-graphs: the nodes whose ids begin with the sub-graph's own and a colon lie in it. What it takes and gives is read off the links. */

import { itemsOf } from "./items";
import type { Workflow } from "./workflow";

const known = new WeakMap<Workflow["extra"], ReadonlySet<string>>();

/** The ids of the sub-graphs of a document. */
export function subgraphsOf(workflow: Workflow): ReadonlySet<string> {
  let found = known.get(workflow.extra);
  if (!found) {
    found = new Set(itemsOf(workflow).flatMap((item) => (item.part === "subgraphs" ? [item.key] : [])));
    known.set(workflow.extra, found);
  }
  return found;
}

/** The innermost sub-graph that an id lies in; empty for the workflow itself. */
export function scopeOf(id: string, subgraphs: ReadonlySet<string>): string {
  for (let cut = id.lastIndexOf(":"); cut > 0; cut = id.lastIndexOf(":", cut - 1)) {
    const around = id.slice(0, cut);
    if (subgraphs.has(around)) return around;
  }
  return "";
}

/** What stands for an id in a scope: itself, the sub-graph there that it lies in, or null where it lies elsewhere. */
export function standsFor(id: string, scope: string, subgraphs: ReadonlySet<string>): string | null {
  let found = id;
  for (let depth = 0; depth < 1000; depth++) {
    const around = scopeOf(found, subgraphs);
    if (around === scope) return found;
    if (!around) return null;
    found = around;
  }
  return null;
}

export interface Port {
  readonly node: string;
  /** An input's name, or an output's number. */
  readonly socket: string;
}

export const portName = ({ node, socket }: Port): string => `${node} ${socket}`;
