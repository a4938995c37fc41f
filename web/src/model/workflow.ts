/**
 * The document that is edited. Plain data that nothing changes in place: a command gives a new one that shares what is
 * the same, so a view can tell by identity what changed.
 */

import type { Json, JsonObject } from "./json";

export type Point = readonly [number, number];

export interface Link {
  readonly source: string;
  readonly output: number;
}

export const RUN = 0;
export const MUTED = 2;
export const BYPASSED = 4;
export type Mode = typeof RUN | typeof MUTED | typeof BYPASSED;

export interface GraphNode {
  readonly id: string;
  readonly type: string;
  /** Its own title; undefined where it goes by its type's. */
  readonly title?: string;
  readonly pos: Point;
  readonly size?: Point;
  readonly mode: Mode;
  readonly collapsed: boolean;
  /** Literals by input. A value may stand under a link; it holds again once the link is gone. */
  readonly values: JsonObject;
  readonly links: { readonly [input: string]: Link };
  /** What else `_meta` held. */
  readonly meta: JsonObject;
}

export interface Workflow {
  readonly title: string;
  readonly nodes: { readonly [id: string]: GraphNode };
  readonly parameters: JsonObject;
  /** The other fields of the document as they came: models, groups, canvas and whatever else. */
  readonly extra: JsonObject;
}

export const EMPTY: Workflow = { title: "", nodes: {}, parameters: {}, extra: {} };

/**
 * An id that no node and nothing on the canvas has or begins with, in no sub-graph either: one more than the largest number.
 * What was unpacked still has the sub-graph's number in its id, and would lie in another of that number.
 */
export function freeId(workflow: Workflow): string {
  let largest = 0;
  for (const id of [...Object.keys(workflow.nodes), ...canvasIds(workflow.extra["canvas"])]) {
    for (const part of id.split(":")) {
      const number = Number(part);
      if (Number.isSafeInteger(number) && number > largest) largest = number;
    }
  }
  return String(largest + 1);
}

function canvasIds(canvas: Json | undefined): string[] {
  if (typeof canvas !== "object" || canvas === null || Array.isArray(canvas)) return [];
  return Object.values(canvas as JsonObject)
    .filter(Array.isArray)
    .flatMap((list: readonly Json[]) => list.map((item) => String((item as JsonObject | null)?.["id"])));
}

/** The document with one node replaced; the same document where there is none or nothing changed. */
export function withNode(workflow: Workflow, id: string, change: (node: GraphNode) => GraphNode): Workflow {
  const node = workflow.nodes[id];
  const next = node && change(node);
  return !next || next === node ? workflow : { ...workflow, nodes: { ...workflow.nodes, [id]: next } };
}

/** A record without some of its names; itself where it has none of them. */
export function without<T>(record: { readonly [name: string]: T }, names: Iterable<string>): { readonly [name: string]: T } {
  const found = { ...record };
  let changed = false;
  for (const name of names) {
    if (name in found) {
      delete found[name];
      changed = true;
    }
  }
  return changed ? found : record;
}

export function sameJson(one: Json | undefined, other: Json | undefined): boolean {
  if (one === other) return true;
  if (typeof one !== "object" || typeof other !== "object" || !one || !other) return false;
  const names = Object.keys(one);
  return (
    Array.isArray(one) === Array.isArray(other) &&
    names.length === Object.keys(other).length &&
    names.every((name) => sameJson((one as JsonObject)[name], (other as JsonObject)[name]))
  );
}
