/** Commands on what lies on the canvas, nodes among it: move, remove; and on groups and notes. */

import { isObject, type JsonObject } from "../json";
import { itemsOf, withItem, withItems } from "../items";
import { subgraphsOf } from "../subgraphs";
import { INSIDE } from "../wires";
import { RUN, without, type Point, type Workflow } from "../workflow";
import { all, type Command } from "./command";
import { freshKey } from "./clipboard";
import { setMode } from "./modes";
import { moveNodes, removeNodes } from "./nodes";
import { withWires } from "./renaming";
import { removeReroutes } from "./wires";

export interface Box {
  readonly pos: Point;
  readonly size: Point;
}

/** Put nodes, groups, notes and the rest elsewhere. */
export function moveItems(places: ReadonlyMap<string, Point>): Command {
  const move: Command = (workflow) => {
    let found = workflow;
    for (const { key } of itemsOf(workflow)) {
      const pos = places.get(key);
      if (pos)
        found = withItem(found, key, (item) =>
          item.pos[0] === pos[0] && item.pos[1] === pos[1] ? item.data : item.placed(pos),
        );
    }
    return found;
  };
  return all(moveNodes(places), move);
}

/** Remove nodes with every link from them, and other items. What went through a reroute goes past it. */
export function removeItems(ids: Iterable<string>): Command {
  const chosen = [...ids];
  return (workflow, types) => {
    const subgraphs = subgraphsOf(workflow);
    const frames = chosen.filter((id) => subgraphs.has(id));
    const within = (id: string) => frames.some((frame) => id.startsWith(`${frame}:`));
    const items = itemsOf(workflow).filter((item) => within(item.place) && !within(item.holder) && !frames.includes(item.holder));
    const inside = [...Object.keys(workflow.nodes).filter(within), ...items.map((item) => item.key)];
    // What holds groups goes after them.
    const gone = [...new Set([...chosen.filter((id) => !subgraphs.has(id)), ...inside, ...frames])];
    const remove: Command = (found) => gone.reduce((next, key) => withItem(next, key, () => null), found);
    // Run, a sub-graph feeds what links past it would go on feeding: with it these go as well.
    return all(setMode(frames, RUN), removeReroutes(gone), removeNodes(gone), remove, forget(gone))(workflow, types);
  };
}

/** Take what the canvas says of links from and to what is gone away: something new may get its id. */
function forget(ids: readonly string[]): Command {
  const gone = new Set(ids.flatMap((id) => [id, `${id}:${INSIDE}`]));
  return (workflow) => {
    const { canvas } = workflow.extra;
    if (!isObject(canvas)) return workflow;
    let touched = false;
    const found = withWires(workflow, (wire) => {
      touched ||= gone.has(wire.source);
      return gone.has(wire.source) ? null : wire;
    });
    const rest = touched ? (found.extra["canvas"] as JsonObject) : canvas;
    const { via } = rest;
    const kept = isObject(via) ? without(via, ids) : via;
    if (kept === via) return touched ? found : workflow;
    return { ...workflow, extra: { ...workflow.extra, canvas: { ...rest, via: kept as JsonObject } } };
  };
}

export function resizeItem(key: string, { pos, size }: Box): Command {
  return (workflow) => withItem(workflow, key, (item) => item.placed(pos, size));
}

/** Set fields of a group, note or primitive. */
export function changeItem(key: string, fields: JsonObject): Command {
  return (workflow) =>
    withItem(workflow, key, (item) =>
      Object.entries(fields).every(([name, value]) => item.data[name] === value) ? item.data : { ...item.data, ...fields },
    );
}

/** Add a note; `scope` is the sub-graph that it goes into. */
export function addNote(pos: Point, text = "", scope = ""): Command {
  return (workflow) =>
    withItems(workflow, "notes", (list) => [
      ...list,
      { id: `${scope && `${scope}:`}${freshKey(list, scope)}`, text, markdown: true, pos: [...pos], size: [240, 140] },
    ]);
}

/** Add a group; `scope` is the sub-graph that it goes into. */
export function addGroup({ pos, size }: Box, title: string, scope = ""): Command {
  return (workflow) =>
    withItems(
      workflow,
      "groups",
      (list) => [...list, { id: freshKey(list), title, bounding: [...pos, ...size], color: "#3f789e" }],
      scope,
    );
}

/** What was not there before a command: to select what it added. */
export function added(before: Workflow, after: Workflow): string[] {
  const old = new Set(itemsOf(before).map((item) => item.key));
  return [
    ...Object.keys(after.nodes).filter((id) => !(id in before.nodes)),
    ...itemsOf(after).map((item) => item.key).filter((key) => !old.has(key)),
  ];
}
