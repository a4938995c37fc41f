/** Commands on nodes: add, remove, move, resize, title, collapse. */

import type { Json } from "../json";
import { freeId, withNode, without, type GraphNode, type Link, type Point } from "../workflow";
import type { Command } from "./command";

/** Add a node with its type's initial values. `id` is free by default; a taken one changes nothing. */
export function addNode(type: string, pos: Point, id?: string): Command {
  return (workflow, types) => {
    const own = id ?? freeId(workflow);
    if (own in workflow.nodes) return workflow;
    const values: Record<string, Json> = {};
    for (const input of types.get(type)?.inputs ?? []) if (input.widget) values[input.name] = input.initial;
    const node: GraphNode = { id: own, type, pos, mode: 0, collapsed: false, values, links: {}, meta: {} };
    return { ...workflow, nodes: { ...workflow.nodes, [own]: node } };
  };
}

/** Remove nodes with every link from them. */
export function removeNodes(ids: Iterable<string>): Command {
  const gone = new Set(ids);
  return (workflow) => {
    const kept = without(workflow.nodes, gone);
    if (kept === workflow.nodes) return workflow;
    const nodes: Record<string, GraphNode> = {};
    for (const node of Object.values(kept)) {
      const cut = Object.keys(node.links).filter((name) => gone.has((node.links[name] as Link).source));
      const links = without(node.links, cut);
      nodes[node.id] = links === node.links ? node : { ...node, links };
    }
    return { ...workflow, nodes };
  };
}

/** Put nodes elsewhere. */
export function moveNodes(places: ReadonlyMap<string, Point>): Command {
  return (workflow) => {
    let found = workflow;
    for (const [id, pos] of places)
      found = withNode(found, id, (node) =>
        node.pos[0] === pos[0] && node.pos[1] === pos[1] ? node : { ...node, pos },
      );
    return found;
  };
}

export function resizeNode(id: string, size: Point): Command {
  return (workflow) => withNode(workflow, id, (node) => ({ ...node, size }));
}

/** Name a node; an empty title gives it its type's. */
export function titleNode(id: string, title: string): Command {
  return (workflow) =>
    withNode(workflow, id, ({ title: old, ...node }) =>
      title.trim() ? { ...node, title: title.trim() } : node,
    );
}

export function collapseNodes(ids: readonly string[], collapsed: boolean): Command {
  return (workflow) => ids.reduce((found, id) => withNode(found, id, (node) => ({ ...node, collapsed })), workflow);
}
