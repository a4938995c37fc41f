/** Commands that put nodes in order: in line, at equal distances, or all by what feeds what. */

import type { Point } from "../workflow";
import type { Command } from "./command";
import { moveItems, type Box } from "./items";

export const ALIGNMENTS = ["left", "centre", "right", "top", "middle", "bottom"] as const;
export type Alignment = (typeof ALIGNMENTS)[number];
export const DISTRIBUTIONS = ["across", "down"] as const;
export type Distribution = (typeof DISTRIBUTIONS)[number];

type Boxes = ReadonlyMap<string, Box>;

/** Put the edges, or the middles, of boxes on one line: that of the outermost, or the middle of all. */
export function align(boxes: Boxes, how: Alignment): Command {
  const axis = how === "left" || how === "centre" || how === "right" ? 0 : 1;
  const part = how === "left" || how === "top" ? 0 : how === "centre" || how === "middle" ? 0.5 : 1;
  const ends = [...boxes.values()].map(({ pos, size }) => [pos[axis], pos[axis] + size[axis]] as const);
  const low = Math.min(...ends.map(([start]) => start));
  const line = low + part * (Math.max(...ends.map(([, end]) => end)) - low);
  const places = new Map<string, Point>();
  for (const [id, { pos, size }] of boxes) places.set(id, along(pos, axis, line - part * size[axis]));
  return moveItems(places);
}

/** Leave the same room between one box and the next; the first and the last stay. */
export function distribute(boxes: Boxes, how: Distribution): Command {
  const axis = how === "across" ? 0 : 1;
  const sorted = [...boxes].sort(([, one], [, other]) => one.pos[axis] - other.pos[axis]);
  const places = new Map<string, Point>();
  const [first, last] = [sorted[0]?.[1], sorted.at(-1)?.[1]];
  if (first && last && sorted.length > 2) {
    const filled = sorted.reduce((sum, [, { size }]) => sum + size[axis], 0);
    const room = (last.pos[axis] + last.size[axis] - first.pos[axis] - filled) / (sorted.length - 1);
    let at = first.pos[axis];
    for (const [id, { pos, size }] of sorted) {
      places.set(id, along(pos, axis, at));
      at += size[axis] + room;
    }
  }
  return moveItems(places);
}

function along(pos: Point, axis: 0 | 1, value: number): Point {
  return axis === 0 ? [Math.round(value), pos[1]] : [pos[0], Math.round(value)];
}
