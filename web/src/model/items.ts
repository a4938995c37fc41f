/**
 * What the canvas shows besides nodes: groups, notes, reroutes and primitives. They are JSON of the document's `groups` and
 * `canvas` (docs/formats.md), and whatever else is in it is kept. None of it decides what runs.
 */

import { isObject, type Json, type JsonObject } from "./json";
import type { Point, Workflow } from "./workflow";

export type Part = "groups" | "notes" | "subgraphs" | "reroutes" | "primitives";
export const PARTS: readonly Part[] = ["groups", "notes", "subgraphs", "reroutes", "primitives"];

const SIZES: Record<Part, Point> = { groups: [400, 240], notes: [240, 140], reroutes: [44, 28], primitives: [220, 70], subgraphs: [240, 120] };

export interface Item {
  /** Told apart from nodes' ids by its first letter, except for reroutes and primitives, from which links come. */
  readonly key: string;
  readonly part: Part;
  readonly index: number;
  /** The sub-graph that holds a group's JSON; empty where the workflow does. */
  readonly holder: string;
  /** The id by which it is known in which sub-graph it lies (`scopeOf`). */
  readonly place: string;
  readonly pos: Point;
  readonly size: Point;
  readonly data: JsonObject;
  /** Its JSON at another place. */
  placed(pos: Point, size?: Point): JsonObject;
}

const known = new WeakMap<JsonObject, readonly Item[]>();
const single = new WeakMap<JsonObject, Item>();

/** The items of a document, in the order in which they lie on each other. One that did not change keeps its identity. */
export function itemsOf(workflow: Workflow): readonly Item[] {
  let found = known.get(workflow.extra);
  if (!found) {
    const items = PARTS.flatMap((part) => listOf(workflow, part).flatMap((data, index, list) => read(part, data, index, list)));
    found = [
      ...items.flatMap(({ part, key, data }) => (part === "subgraphs" ? groupsIn(data).flatMap((item, index, list) => read("groups", item, index, list, key)) : [])),
      ...items,
    ];
    known.set(workflow.extra, found);
  }
  return found;
}

export function itemOf(workflow: Workflow, key: string): Item | undefined {
  return itemsOf(workflow).find((item) => item.key === key);
}

function listOf(workflow: Workflow, part: Part): readonly Json[] {
  const { canvas, groups } = workflow.extra;
  const list = part === "groups" ? groups : isObject(canvas) ? canvas[part] : undefined;
  return Array.isArray(list) ? (list as readonly Json[]) : [];
}

/** The groups that lie in a sub-graph, where ComfyUI has them as well. */
function groupsIn(subgraph: JsonObject): readonly Json[] {
  return Array.isArray(subgraph["groups"]) ? (subgraph["groups"] as readonly Json[]) : [];
}

function read(part: Part, data: Json, index: number, list: readonly Json[], holder = ""): Item[] {
  if (!isObject(data)) return [];
  const id = data["id"];
  const own = typeof id === "string" || typeof id === "number" ? String(id) : "";
  const wired = part !== "groups" && part !== "notes";
  if (wired && !own) return [];
  const first = own && list.findIndex((other) => isObject(other) && String(other["id"]) === own) === index;
  if (wired && !first) return [];
  const name = first ? own : `#${index}`;
  const key = wired ? own : holder ? `§inner ${JSON.stringify([holder, name])}` : `§${part} ${name}`;
  const old = single.get(data);
  if (old?.key === key && old.index === index && old.part === part) return [old];
  const bounds = numbers(data["bounding"], 4);
  const pos = part === "groups" ? bounds?.slice(0, 2) : numbers(data["pos"], 2);
  const size = part === "groups" ? bounds?.slice(2) : numbers(data["size"], 2);
  const item: Item = {
    key,
    part,
    index,
    holder,
    place: part === "groups" ? (holder ? `${holder}:${name}` : "") : own,
    pos: (pos as unknown as Point | undefined) ?? [0, 0],
    size: (size as unknown as Point | undefined) ?? SIZES[part],
    data,
    placed([x, y], extent) {
      const [width, height] = extent ?? item.size;
      if (part === "groups") return { ...data, bounding: [x, y, width, height] };
      return { ...data, pos: [x, y], ...(extent && { size: [width, height] }) };
    },
  };
  single.set(data, item);
  return [item];
}

function numbers(value: Json | undefined, count: number): readonly number[] | undefined {
  if (!Array.isArray(value) || value.length < count) return undefined;
  const found = (value as readonly Json[]).slice(0, count).map(Number);
  return found.every((number) => Number.isFinite(number) && Math.abs(number) < 1e7) ? found : undefined;
}

/** The document with a list of its items changed, for groups that of `holder`; the same document where the list is the same. */
export function withItems(workflow: Workflow, part: Part, change: (list: readonly Json[]) => readonly Json[], holder = ""): Workflow {
  if (part === "groups" && holder)
    return withItem(workflow, holder, ({ data }) => {
      const [list, next] = [groupsIn(data), change(groupsIn(data))];
      return next === list ? data : { ...data, groups: next };
    });
  const list = listOf(workflow, part);
  const next = change(list);
  if (next === list) return workflow;
  if (part === "groups") return { ...workflow, extra: { ...workflow.extra, groups: next } };
  const canvas = isObject(workflow.extra["canvas"]) ? workflow.extra["canvas"] : {};
  return { ...workflow, extra: { ...workflow.extra, canvas: { ...canvas, [part]: next } } };
}

/** The document with one item's JSON replaced, or the item removed where `change` gives null. */
export function withItem(workflow: Workflow, key: string, change: (item: Item) => JsonObject | null): Workflow {
  const item = itemOf(workflow, key);
  if (!item) return workflow;
  const next = change(item);
  if (next === item.data) return workflow;
  const replaced = (list: readonly Json[]) => list.flatMap((data, index) => (index !== item.index ? [data] : next ? [next] : []));
  return withItems(workflow, item.part, replaced, item.holder);
}
