/** Auto layout: nodes from left to right by what feeds what. */

import type { Box } from "./commands";
import type { Point, Workflow } from "./workflow";

/** Places for the boxed nodes, their left upper corner where it was. The library is loaded when this is first called. */
export async function arranged(workflow: Workflow, boxes: ReadonlyMap<string, Box>): Promise<Map<string, Point>> {
  const { Graph, layout } = await import("@dagrejs/dagre");
  const graph = new Graph();
  graph.setGraph({ rankdir: "LR", nodesep: 36, ranksep: 72 });
  graph.setDefaultEdgeLabel(() => ({}));
  const ids = [...boxes.keys()].filter((id) => id in workflow.nodes);
  for (const id of ids) {
    const [width, height] = (boxes.get(id) as Box).size;
    graph.setNode(id, { width, height });
  }
  for (const id of ids)
    for (const { source } of Object.values(workflow.nodes[id]?.links ?? {})) if (boxes.has(source)) graph.setEdge(source, id);
  layout(graph);
  const corner = (places: readonly Point[]): Point => [Math.min(...places.map(([x]) => x)), Math.min(...places.map(([, y]) => y))];
  const found = ids.map((id): [string, Point] => {
    const { x = 0, y = 0, width = 0, height = 0 } = graph.node(id) as Partial<Record<"x" | "y" | "width" | "height", number>>;
    return [id, [x - width / 2, y - height / 2]];
  });
  const [fromX, fromY] = corner(found.map(([, pos]) => pos));
  const [toX, toY] = corner(ids.map((id) => (boxes.get(id) as Box).pos));
  return new Map(found.map(([id, [x, y]]) => [id, [Math.round(x - fromX + toX), Math.round(y - fromY + toY)]]));
}
