/** The order in which nodes can run: each after what feeds it. */

import type { GraphNode, Workflow } from "./workflow";

/** The nodes, each after its sources and otherwise as the document has them; nodes of a circle come where it was met. */
export function inOrder({ nodes }: Workflow): GraphNode[] {
  const found: GraphNode[] = [];
  const seen = new Set<string>();
  for (const first of Object.keys(nodes)) {
    const waiting: [string, boolean][] = [[first, false]];
    for (let next = waiting.pop(); next; next = waiting.pop()) {
      const [id, fed] = next;
      const node = nodes[id];
      if (!node) continue;
      if (fed) {
        found.push(node);
        continue;
      }
      if (seen.has(id)) continue;
      seen.add(id);
      waiting.push([id, true]);
      for (const { source } of Object.values(node.links).reverse()) waiting.push([source, false]);
    }
  }
  return found;
}
