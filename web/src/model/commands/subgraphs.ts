/** Commands that make sub-graphs of nodes, and nodes of sub-graphs. */

import { itemsOf, withItem, withItems } from "../items";
import type { Json } from "../json";
import { scopeOf, subgraphsOf } from "../subgraphs";
import { declared, frameMode, INSIDE, saidVia } from "../wires";
import { freeId, RUN, without, type Link, type Point, type Workflow } from "../workflow";
import { freshKey, leastOf } from "./clipboard";
import type { Command } from "./command";
import { moveItems } from "./items";
import { setMode } from "./modes";
import { withNames, withWires } from "./renaming";

/** Put what lies in one scope into a new sub-graph, which takes its place. Ids say so from then on, everywhere. */
export function packNodes(ids: Iterable<string>, name: string): Command {
  return (workflow) => {
    const chosen = new Set(ids);
    const subgraphs = subgraphsOf(workflow);
    const items = itemsOf(workflow).filter((item) => chosen.has(item.key) && !(item.key in workflow.nodes));
    const nodes = Object.values(workflow.nodes).filter((node) => chosen.has(node.id));
    const first = nodes[0]?.id ?? items.find((item) => item.part === "subgraphs")?.key;
    if (first === undefined) return workflow;
    const scope = scopeOf(first, subgraphs);
    const inside = [
      ...nodes.map(({ id, pos }) => ({ place: id, pos, group: null })),
      ...items.map((item) => ({ place: item.place, pos: item.pos, group: item.part === "groups" ? item : null })),
    ].filter(({ place }) => scopeOf(place, subgraphs) === scope);
    const own = `${scope && `${scope}:`}${freeId(workflow)}`;
    const names = new Map(
      inside.flatMap(({ place, group }) => (group ? [] : [[place, `${own}:${scope ? place.slice(scope.length + 1) : place}`] as const])),
    );
    const groups = inside.flatMap(({ group }) => group ?? []);
    const without = groups.reduce((found, group) => withItem(found, group.key, () => null), workflow);
    return withItems(withNames(without, names), "subgraphs", (list) => [
      ...list,
      {
        id: own,
        name,
        inputs: [],
        outputs: [],
        ...(groups.length && { groups: groups.map((group) => group.data) }),
        pos: [...leastOf(inside.map(({ pos }) => pos))],
      },
    ]);
  };
}

/** Take a sub-graph's frame away: what is in it lies where it was, in the order that it had in it. */
export function unpackSubgraph(id: string): Command {
  return (workflow, types) => {
    const frame = itemsOf(workflow).find((item) => item.key === id);
    if (frame?.part !== "subgraphs") return workflow;
    const mode = frameMode(workflow, frame);
    if (mode !== RUN) {
      // What it is as a whole each node in it is from then on.
      const bare = unpackSubgraph(id)(setMode([id], RUN)(workflow, types), types);
      return setMode(Object.values(bare.nodes).flatMap((node) => (node.mode === RUN && node.id.startsWith(`${id}:`) ? [node.id] : [])), mode)(bare, types);
    }
    const subgraphs = subgraphsOf(workflow);
    const inside = [
      ...Object.values(workflow.nodes).map((node) => ({ key: node.id, place: node.id, pos: node.pos })),
      ...itemsOf(workflow),
    ].filter((item) => scopeOf(item.place, subgraphs) === id);
    const [left, top] = leastOf(inside.map(({ pos }) => pos));
    const by = (pos: Point): Point => [pos[0] - left + frame.pos[0], pos[1] - top + frame.pos[1]];
    const moved = moveItems(new Map(inside.map(({ key, pos }) => [key, by(pos)])))(workflow, types);
    const groups = itemsOf(moved).filter((item) => item.holder === id);
    const led = withWires(moved, (wire) => past(workflow, id, wire));
    const bare = withItem(withoutVia(led, id), id, () => null);
    return groups.reduce(
      (found, { data }) => withItems(found, "groups", (list) => [...list, { ...data, id: freshKey(list) }], scopeOf(id, subgraphs)),
      bare,
    );
  };
}

/** What a link from a sub-graph, or from its inputs seen from inside, comes from without it. */
function past(workflow: Workflow, id: string, wire: Link): Link | null {
  const frame = itemsOf(workflow).find((item) => item.key === id);
  let step: Link | null = wire;
  for (let count = 0; frame && step && (step.source === id || step.source === `${id}:${INSIDE}`); count++) {
    if (count > 100) return null;
    const port: { readonly name: string; readonly from: Link | null } | undefined = declared(frame, step.source === id ? "outputs" : "inputs")[step.output];
    step = port ? (step.source === id ? port.from : saidVia(workflow, id, port.name)) : null;
  }
  return step;
}

function withoutVia(workflow: Workflow, id: string): Workflow {
  const canvas = workflow.extra["canvas"] as { readonly [name: string]: Json };
  const { via } = canvas;
  if (typeof via !== "object" || via === null || !(id in via)) return workflow;
  return { ...workflow, extra: { ...workflow.extra, canvas: { ...canvas, via: without(via as { readonly [name: string]: Json }, [id]) } } };
}
