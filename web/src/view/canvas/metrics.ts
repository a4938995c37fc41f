/** Sizes of a node before it is drawn; style.css has the same numbers. */

import { Position, type NodeHandle } from "@xyflow/react";
import type { InputType, NodeType, NodeTypes } from "../../model/types";
import type { GraphNode } from "../../model/workflow";
import { inputHandle, outputHandle } from "./handles";

export const WIDTH = 260;
export const LEAST_WIDTH = 200;
const BORDER = 1;
const HEADER = 34;
const PADDING = 5;
const ROW = 24;
const WIDGET = 28;
const TEXT = 64;
const UPLOAD = 172;
const HANDLE = 12;

export function widthOf(node: GraphNode): number {
  return Math.max(LEAST_WIDTH, node.size?.[0] ?? WIDTH);
}

export const socketsOf = (type: NodeType): readonly InputType[] => type.inputs.filter((input) => input.widget === null);
export const widgetsOf = (type: NodeType): readonly InputType[] => type.inputs.filter((input) => input.widget !== null);

export interface Estimate {
  readonly measured: { width: number; height: number };
  readonly handles: NodeHandle[];
}

const GROWING: ReadonlySet<string> = new Set(["multiline", "image"]);

function heightOf({ widget }: InputType): number {
  return widget === "multiline" ? TEXT : widget === "image" ? UPLOAD : WIDGET;
}

/** Whether there is something in a node that a greater height is of use to. */
export const grows = (type: NodeType): boolean => type.inputs.some((input) => GROWING.has(input.widget ?? ""));

/** The height that a node has where none was given. */
export function leastHeight(type: NodeType): number {
  const rows = Math.max(socketsOf(type).length, type.outputs.length);
  return 2 * BORDER + HEADER + 2 * PADDING + ROW * rows + widgetsOf(type).reduce((sum, input) => sum + heightOf(input), 0);
}

/** What each text and picture of a node has of the height that it was given beyond its own. */
function growth(node: GraphNode, type: NodeType): number {
  const parts = type.inputs.filter((input) => GROWING.has(input.widget ?? "")).length;
  return parts ? Math.max(0, (node.size?.[1] ?? 0) - leastHeight(type)) / parts : 0;
}

/** Size and sockets as the style sheet will make them, for a node that was not measured yet. */
export function estimate(node: GraphNode, types: NodeTypes): Estimate {
  const type = types.get(node.type);
  const handles: NodeHandle[] = [];
  const width = widthOf(node);
  let top = BORDER + HEADER + PADDING;
  function put(id: string, kind: "source" | "target", middle: number): void {
    handles.push({
      id,
      type: kind,
      position: kind === "source" ? Position.Right : Position.Left,
      x: (kind === "source" ? width : 0) - HANDLE / 2,
      y: (node.collapsed ? BORDER + HEADER / 2 : middle) - HANDLE / 2,
      width: HANDLE,
      height: HANDLE,
    });
  }
  if (type) {
    const sockets = socketsOf(type);
    sockets.forEach((input, index) => put(inputHandle(input.name), "target", top + ROW * (index + 0.5)));
    type.outputs.forEach((_, index) => put(outputHandle(index), "source", top + ROW * (index + 0.5)));
    top += ROW * Math.max(sockets.length, type.outputs.length);
    const more = growth(node, type);
    for (const input of widgetsOf(type)) {
      const height = heightOf(input) + (GROWING.has(input.widget ?? "") ? more : 0);
      put(inputHandle(input.name), "target", top + WIDGET / 2);
      top += height;
    }
  }
  const height = node.collapsed ? HEADER + 2 * BORDER : top + PADDING + BORDER;
  return { measured: { width, height }, handles };
}
