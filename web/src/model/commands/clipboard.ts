/** Commands that copy: what is selected becomes a document of its own, and a document becomes part of another. */

import { readLink } from "../document";
import { isObject, type Json, type JsonObject } from "../json";
import { itemsOf, PARTS, withItems, type Item } from "../items";
import { scopeOf, subgraphsOf } from "../subgraphs";
import { INSIDE, vias } from "../wires";
import { freeId, RUN, withNode, without, type GraphNode, type Link, type Point, type Workflow } from "../workflow";
import type { Command } from "./command";
import { asleep, awake, modeOf, offAround } from "./modes";
import { withNames } from "./renaming";

/**
 * The chosen nodes, notes, groups and sub-graphs as a document. Links from nodes that are not among them stay as they are;
 * what is muted only because a sub-graph around it is, is by itself what it was.
 */
export function fragmentOf(workflow: Workflow, ids: Iterable<string>): Workflow {
  const chosen = new Set(ids);
  const frames = [...subgraphsOf(workflow)].filter((id) => chosen.has(id));
  const within = (id: string) => frames.some((frame) => id.startsWith(`${frame}:`));
  const nodes: Record<string, GraphNode> = {};
  for (const node of Object.values(workflow.nodes)) if (chosen.has(node.id) || within(node.id)) nodes[node.id] = node;
  const items = itemsOf(workflow).filter((item) => (COPIED.has(item.part) && chosen.has(item.key)) || (item.part !== "groups" && within(item.place)));
  const part = (name: Item["part"]) => items.filter((item) => item.part === name).map((item) => item.data);
  const groups = part("groups");
  const canvas: Record<string, Json> = {};
  for (const name of PARTS) if (name !== "groups" && part(name).length) canvas[name] = part(name);
  const inner = Object.entries(vias(workflow)).filter(([target]) => within(target) || frames.includes(target));
  if (inner.length) canvas["via"] = Object.fromEntries(inner);
  const extra: Record<string, Json> = { ...(groups.length && { groups }), ...(Object.keys(canvas).length && { canvas }) };
  const fragment: Workflow = { title: "", nodes, parameters: {}, extra };
  const woken = Object.values(nodes).filter(({ id }) => offAround(workflow, id) && !offAround(fragment, id));
  return woken.reduce((found, { id }) => withNode(found, id, awake), fragment);
}

/** What is copied by itself; reroutes and primitives only with the sub-graph that they lie in. */
const COPIED: ReadonlySet<Item["part"]> = new Set(["groups", "notes", "subgraphs"] as const);

export const isEmpty = (fragment: Workflow): boolean =>
  !Object.keys(fragment.nodes).length && !itemsOf(fragment).some((item) => COPIED.has(item.part));

/** The left upper corner of places. */
export function leastOf(places: readonly Point[]): Point {
  return [Math.min(...places.map((pos) => pos[0])), Math.min(...places.map((pos) => pos[1]))];
}

/** The left upper corner of all that is in a document, what is in sub-graphs aside. */
export function cornerOf(workflow: Workflow): Point {
  const subgraphs = subgraphsOf(workflow);
  const items = [...Object.values(workflow.nodes).map(({ id, pos }) => ({ place: id, pos })), ...itemsOf(workflow)];
  return leastOf(items.filter((item) => !scopeOf(item.place, subgraphs)).map((item) => item.pos));
}

/** The ids that the nodes and sub-graphs of a fragment get in a document, by those that they have; what is inside goes along. */
export function idsFor(fragment: Workflow, workflow: Workflow, scope = ""): ReadonlyMap<string, string> {
  const first = Number(freeId(workflow));
  const subgraphs = subgraphsOf(fragment);
  const roots = [...Object.keys(fragment.nodes), ...subgraphs].filter((id) => !scopeOf(id, subgraphs));
  return new Map(roots.map((id, index) => [id, `${scope && `${scope}:`}${first + index}`]));
}

/**
 * Put a copy of a fragment into the document, moved by `by`. Links among its nodes are kept; those from others only with
 * `outer`, which says that the fragment is of this document. `scope` is the sub-graph that it goes into.
 */
export function paste(fragment: Workflow, by: Point, outer = false, scope = ""): Command {
  return (workflow) => {
    const subgraphs = subgraphsOf(fragment);
    const ids = idsFor(fragment, workflow, scope);
    const off = scope && (modeOf(workflow, scope) !== RUN || offAround(workflow, scope));
    const linked: Record<string, GraphNode> = {};
    for (const node of Object.values(fragment.nodes)) {
      const cut = Object.keys(node.links).filter((input) => {
        const { source } = node.links[input] as Link;
        return !(source in fragment.nodes) && !(outer && source in workflow.nodes);
      });
      const pos: Point = scopeOf(node.id, subgraphs) ? node.pos : [node.pos[0] + by[0], node.pos[1] + by[1]];
      const own = off && !offAround(fragment, node.id) ? asleep(node) : node;
      linked[node.id] = { ...own, links: without(node.links, cut), pos };
    }
    const copy = withNames({ ...fragment, nodes: linked }, ids);
    let found: Workflow = Object.keys(linked).length ? { ...workflow, nodes: { ...workflow.nodes, ...copy.nodes } } : workflow;
    const copied = subgraphsOf(copy);
    // Sub-graphs before what lies in them: groups are in their JSON.
    for (const item of itemsOf(copy).filter(({ holder }) => !holder)) {
      const inside = scopeOf(item.place, copied) !== "";
      const data = inside ? item.data : item.placed([item.pos[0] + by[0], item.pos[1] + by[1]]);
      const holder = item.part === "groups" ? scope : "";
      if (!inside && !COPIED.has(item.part)) continue;
      const own = inside || item.part === "subgraphs";
      const id = (list: readonly Json[]) => (item.part === "notes" && scope ? `${scope}:${freshKey(list, scope)}` : freshKey(list));
      found = withItems(found, item.part, (list) => [...list, own ? data : ({ ...data, id: id(list) } as JsonObject)], holder);
    }
    return withVias(found, copy, outer);
  };
}

/** The document with what a copy says of links on the canvas: of those that begin outside it only with `outer`. */
function withVias(workflow: Workflow, copy: Workflow, outer: boolean): Workflow {
  const sources = new Set([...Object.keys(copy.nodes), ...itemsOf(copy).flatMap(({ key, part }) => (part === "subgraphs" ? [key, `${key}:${INSIDE}`] : [key]))]);
  const kept = Object.entries(vias(copy)).flatMap(([target, inputs]) => {
    const led = isObject(inputs) ? Object.entries(inputs).filter(([, wire]) => outer || sources.has(readLink(wire)?.source ?? "")) : [];
    return led.length ? [[target, Object.fromEntries(led)] as const] : [];
  });
  const canvas = isObject(workflow.extra["canvas"]) ? workflow.extra["canvas"] : {};
  if (!kept.length) return workflow;
  return { ...workflow, extra: { ...workflow.extra, canvas: { ...canvas, via: { ...vias(workflow), ...Object.fromEntries(kept) } } } };
}

/** An id that no item of a list has. Groups of ComfyUI have numbers, notes have texts; the number as text is free in both. */
export function freshKey(list: readonly Json[], scope = ""): string {
  const taken = new Set(list.map((item) => String((item as JsonObject | null)?.["id"])));
  const before = scope && `${scope}:`;
  let next = list.length + 1;
  while (taken.has(`${before}n${next}`)) next++;
  return `n${next}`;
}
