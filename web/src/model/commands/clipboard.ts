/** Commands that copy: what is selected becomes a document of its own, and a document becomes part of another. */

import type { Json, JsonObject } from "../json";
import { itemsOf, withItems, type Item } from "../items";
import { freeId, type GraphNode, type Link, type Point, type Workflow } from "../workflow";
import type { Command } from "./command";

/** The chosen nodes, notes and groups as a document. Links from nodes that are not among them stay as they are. */
export function fragmentOf(workflow: Workflow, ids: Iterable<string>): Workflow {
  const chosen = new Set(ids);
  const nodes: Record<string, GraphNode> = {};
  for (const node of Object.values(workflow.nodes)) if (chosen.has(node.id)) nodes[node.id] = node;
  const items = itemsOf(workflow).filter((item) => chosen.has(item.key));
  const part = (name: Item["part"]) => items.filter((item) => item.part === name).map((item) => item.data);
  const [groups, notes] = [part("groups"), part("notes")];
  const extra: Record<string, Json> = { ...(groups.length && { groups }), ...(notes.length && { canvas: { notes } }) };
  return { title: "", nodes, parameters: {}, extra };
}

export const isEmpty = (fragment: Workflow): boolean =>
  !Object.keys(fragment.nodes).length && !itemsOf(fragment).some((item) => item.part === "notes" || item.part === "groups");

/** The left upper corner of all that is in a document. */
export function cornerOf(workflow: Workflow): Point {
  const places = [...Object.values(workflow.nodes), ...itemsOf(workflow)].map((item) => item.pos);
  return [Math.min(...places.map((pos) => pos[0])), Math.min(...places.map((pos) => pos[1]))];
}

/** The ids that the nodes of a fragment get in a document, by those that they have. */
export function idsFor(fragment: Workflow, workflow: Workflow, scope = ""): ReadonlyMap<string, string> {
  const first = Number(freeId(workflow));
  return new Map(Object.keys(fragment.nodes).map((id, index) => [id, `${scope && `${scope}:`}${first + index}`]));
}

/**
 * Put a copy of a fragment into the document, moved by `by`. Links among its nodes are kept; those from others only with
 * `outer`, which says that the fragment is of this document. `scope` is the sub-graph that it goes into.
 */
export function paste(fragment: Workflow, by: Point, outer = false, scope = ""): Command {
  return (workflow) => {
    const ids = idsFor(fragment, workflow, scope);
    const nodes: Record<string, GraphNode> = { ...workflow.nodes };
    for (const node of Object.values(fragment.nodes)) {
      const id = ids.get(node.id) as string;
      const links: Record<string, Link> = {};
      for (const [input, link] of Object.entries(node.links)) {
        const source = ids.get(link.source) ?? (outer && link.source in workflow.nodes ? link.source : undefined);
        if (source !== undefined) links[input] = { ...link, source };
      }
      nodes[id] = { ...node, id, links, pos: [node.pos[0] + by[0], node.pos[1] + by[1]] };
    }
    let found: Workflow = ids.size ? { ...workflow, nodes } : workflow;
    for (const item of itemsOf(fragment)) {
      if (item.part !== "notes" && item.part !== "groups") continue;
      const { id: _, ...data } = item.placed([item.pos[0] + by[0], item.pos[1] + by[1]]);
      found = withItems(found, item.part, (list) => [...list, { ...data, id: freshKey(list) } as JsonObject]);
    }
    return found;
  };
}

/** An id that no item of a list has. Groups of ComfyUI have numbers, notes have texts; the number as text is free in both. */
export function freshKey(list: readonly Json[]): string {
  const taken = new Set(list.map((item) => String((item as JsonObject | null)?.["id"])));
  let next = list.length + 1;
  while (taken.has(`n${next}`)) next++;
  return `n${next}`;
}
