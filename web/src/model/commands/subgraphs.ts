/** Commands that make sub-graphs of nodes, and nodes of sub-graphs. */

import { withItem, withItems } from "../items";
import { isObject, type Json } from "../json";
import { scopeOf, subgraphsOf } from "../subgraphs";
import { freeId, type GraphNode, type Link, type Point, type Workflow } from "../workflow";
import { cornerOf } from "./clipboard";
import type { Command } from "./command";

/** Put nodes of one scope into a new sub-graph, which takes their place. They get ids that say so, everywhere. */
export function packNodes(ids: Iterable<string>, name: string): Command {
  return (workflow) => {
    const chosen = [...ids].filter((id) => id in workflow.nodes);
    const subgraphs = subgraphsOf(workflow);
    const scope = scopeOf(chosen[0] ?? "", subgraphs);
    const inside = chosen.filter((id) => scopeOf(id, subgraphs) === scope);
    if (!inside.length) return workflow;
    const own = `${scope ? `${scope}:` : ""}${freeId(workflow)}`;
    const renamed = new Map(inside.map((id) => [id, `${own}:${scope ? id.slice(scope.length + 1) : id}`]));
    const fragment = { ...workflow, nodes: Object.fromEntries(inside.map((id) => [id, workflow.nodes[id] as GraphNode])), extra: {} };
    const pos = cornerOf(fragment);
    const found = withItems(rename(workflow, renamed), "subgraphs", (list) => [
      ...list,
      { id: own, name, inputs: [], outputs: [], pos: [...pos] },
    ]);
    return found;
  };
}

function rename(workflow: Workflow, names: ReadonlyMap<string, string>): Workflow {
  const nodes: Record<string, GraphNode> = {};
  for (const node of Object.values(workflow.nodes)) {
    const id = names.get(node.id) ?? node.id;
    const moved = Object.values(node.links).some((link) => names.has(link.source));
    const links: Record<string, Link> = {};
    for (const [input, link] of Object.entries(node.links)) links[input] = { ...link, source: names.get(link.source) ?? link.source };
    nodes[id] = id === node.id && !moved ? node : { ...node, id, ...(moved && { links }) };
  }
  const target = (item: Json): Json => {
    const id = isObject(item) ? names.get(String(item["node"])) : undefined;
    return isObject(item) && id !== undefined ? { ...item, node: id } : item;
  };
  const parameters: Record<string, Json> = {};
  for (const [name, declared] of Object.entries(workflow.parameters))
    parameters[name] = Array.isArray(declared) ? (declared as readonly Json[]).map(target) : target(declared);
  return { ...workflow, nodes, parameters };
}

/** Take a sub-graph's frame away: its nodes lie where it was, in the order that they had in it. */
export function unpackSubgraph(id: string): Command {
  return (workflow) => {
    const inside = Object.values(workflow.nodes).filter((node) => node.id.startsWith(`${id}:`));
    let at: Point | undefined;
    const found = withItem(workflow, id, (item) => {
      if (item.part !== "subgraphs") return item.data;
      at = item.pos;
      return null;
    });
    if (!at || !inside.length) return found;
    const [left, top] = cornerOf({ ...workflow, nodes: Object.fromEntries(inside.map((node) => [node.id, node])), extra: {} });
    const nodes: Record<string, GraphNode> = { ...found.nodes };
    for (const node of inside) nodes[node.id] = { ...node, pos: [node.pos[0] - left + at[0], node.pos[1] - top + at[1]] };
    return { ...found, nodes };
  };
}
