/** Commands that mute, bypass or run nodes and whole sub-graphs. */

import { itemOf, itemsOf, withItem, type Item } from "../items";
import { isObject } from "../json";
import { reaches } from "../validation";
import { frameMode, lead, saidVia, viaInputs, viaOf, vias } from "../wires";
import { BYPASSED, MUTED, RUN, sameJson, withNode, without, type GraphNode, type Link, type Mode, type Workflow } from "../workflow";
import type { Command } from "./command";
import { declarePorts } from "./ports";
import { withVia } from "./wires";

/** Mute, bypass or run nodes and sub-graphs. */
export function setMode(ids: readonly string[], mode: Mode): Command {
  return (workflow, types) =>
    ids.reduce((found, id) => {
      if (id in found.nodes) return withNode(found, id, (node) => (node.mode === mode ? node : { ...node, mode }));
      return itemOf(found, id)?.part === "subgraphs" ? setFrameMode(id, mode)(found, types) : found;
    }, workflow);
}

/** What a node, or a sub-graph as a whole, is; undefined for what is neither. */
export function modeOf(workflow: Workflow, id: string): Mode | undefined {
  const node = workflow.nodes[id];
  if (node) return node.mode;
  const item = itemOf(workflow, id);
  return item?.part === "subgraphs" ? frameMode(workflow, item) : undefined;
}

/** The sub-graph around a node that is muted or bypassed as a whole; undefined where there is none. */
export function offAround(workflow: Workflow, id: string): Item | undefined {
  return itemsOf(workflow).find((item) => id.startsWith(`${item.key}:`) && frameMode(workflow, item) !== RUN);
}

/**
 * Mute or bypass a sub-graph as a whole, or run it. Each node in it is muted then and keeps what it was for later; what a
 * bypassed one fed is led past it, so that the nodes alone say what runs.
 */
function setFrameMode(id: string, mode: Mode): Command {
  return (workflow, types) => {
    if (modeOf(workflow, id) === mode) return workflow;
    const before = mode === BYPASSED ? declarePorts(id)(workflow, types) : workflow;
    // A mode that does not hold, because some node runs, would hold once that is muted.
    const stale = itemsOf(before).filter((item) => item.part === "subgraphs" && item.data["mode"] !== undefined && frameMode(before, item) === RUN);
    let found = stale.reduce((next, { key }) => withItem(next, key, ({ data }) => without(data, ["mode"])), before);
    found = withItem(found, id, ({ data }) => (mode === RUN ? without(data, ["mode"]) : { ...data, mode }));
    const inside = Object.keys(found.nodes).filter((key) => key.startsWith(`${id}:`));
    if (mode === RUN) {
      const off = itemsOf(found).filter(({ part, data }) => part === "subgraphs" && data["mode"] !== undefined);
      const woken = inside.filter((key) => !off.some((item) => key.startsWith(`${item.key}:`)));
      found = woken.reduce((next, key) => withNode(next, key, awake), found);
    } else found = inside.filter((key) => !offAround(before, key)).reduce((next, key) => withNode(next, key, asleep), found);
    return relead(before, found);
  };
}

/** A node muted because its sub-graph is, with what it is by itself kept where ComfyUI's format has it too. */
export function asleep(node: GraphNode): GraphNode {
  return { ...withKept(node, node.mode), mode: MUTED };
}

/** A node of a sub-graph that runs again: what it was by itself. */
export function awake(node: GraphNode): GraphNode {
  const ui = node.meta["ui"];
  const kept = isObject(ui) ? ui["mode"] : undefined;
  return { ...withKept(node, RUN), mode: kept === MUTED || kept === BYPASSED ? kept : RUN };
}

function withKept(node: GraphNode, mode: Mode): GraphNode {
  const { mode: _, ...rest } = isObject(node.meta["ui"]) ? node.meta["ui"] : {};
  const ui = mode === RUN ? rest : { ...rest, mode };
  return { ...node, meta: Object.keys(ui).length ? { ...node.meta, ui } : without(node.meta, ["ui"]) };
}

/** The document with the links that the canvas draws led to what they lead to now, where they still are what they were before. */
function relead(before: Workflow, now: Workflow): Workflow {
  const led: { readonly id: string; readonly input: string; readonly is: Link }[] = [];
  let found = now;
  for (const { id, links } of Object.values(now.nodes))
    for (const input of viaInputs(now, id)) {
      if (before.nodes[id]?.links[input] !== links[input] || !sameJson(said(before, id, input), said(now, id, input)) || !viaOf(before, id, input)) continue;
      const is = lead(now, saidVia(now, id, input));
      const value = is && "value" in is ? is.value : undefined;
      if (is && !("value" in is)) led.push({ id, input, is });
      if (viaOf(now, id, input)) continue;
      found = withNode(found, id, (node) => ({
        ...node,
        links: without(node.links, [input]),
        ...(value !== undefined && { values: { ...node.values, [input]: value } }),
      }));
    }
  // The old links are gone by now: what would still wait for itself is fed by nothing.
  for (const { id, input, is } of led)
    if (!found.nodes[id]?.links[input] && !reaches(found, is.source, id)) found = withNode(found, id, (node) => ({ ...node, links: { ...node.links, [input]: is } }));
  return found;
}

function said(workflow: Workflow, id: string, input: string): [string, number] | null {
  const wire = saidVia(workflow, id, input);
  return wire && [wire.source, wire.output];
}

/**
 * What an edit made of the document, with what is in muted and bypassed sub-graphs, and is led past them, kept as they say. What
 * the canvas says of a link that has become another one is forgotten: it would hold again by chance.
 */
export function settled(before: Workflow, now: Workflow): Workflow {
  if (now === before) return now;
  const off = itemsOf(before).filter((item) => frameMode(before, item) !== RUN);
  let found = now;
  for (const { key, data } of off) {
    if (itemOf(now, key)?.data["mode"] !== data["mode"]) continue;
    for (const node of Object.values(now.nodes)) if (node.mode !== MUTED && node.id.startsWith(`${key}:`)) found = withNode(found, node.id, asleep);
  }
  return withoutStale(off.length ? relead(before, found) : found);
}

function withoutStale(workflow: Workflow): Workflow {
  const stale = Object.keys(vias(workflow))
    .filter((id) => id in workflow.nodes)
    .flatMap((id) => viaInputs(workflow, id).map((input) => [id, input] as const))
    .filter(([id, input]) => !viaOf(workflow, id, input));
  return stale.reduce((found, [id, input]) => withVia(found, id, input, null), workflow);
}
