/** Commands on reroutes and primitives, and on links that begin or end at them. */

import { readLink } from "../document";
import { itemOf, withItem, withItems, type Item } from "../items";
import { isObject, type Json, type JsonObject } from "../json";
import { scopeOf, subgraphsOf } from "../subgraphs";
import { assignable } from "../types";
import { inputOf } from "../validation";
import { portsOf } from "../ports";
import { behind, declared, fedBy, INSIDE, lead, OUTSIDE, passes, saidVia, viaInputs, viaOf, vias, wireType } from "../wires";
import { freeId, without, type Link, type Point, type Workflow } from "../workflow";
import type { Command } from "./command";
import { connect, disconnect } from "./links";
import { setValue } from "./values";

/** The document with what the canvas says of where an input's link comes from. */
export function withVia(workflow: Workflow, target: string, input: string, wire: Link | null): Workflow {
  if (!wire && !saidVia(workflow, target, input)) return workflow;
  const canvas = isObject(workflow.extra["canvas"]) ? workflow.extra["canvas"] : {};
  const via = vias(workflow);
  const old = isObject(via[target]) ? via[target] : {};
  const inputs: JsonObject = wire ? { ...old, [input]: [wire.source, wire.output] } : without(old, [input]);
  const next: JsonObject = Object.keys(inputs).length ? { ...via, [target]: inputs } : without(via, [target]);
  return { ...workflow, extra: { ...workflow.extra, canvas: { ...canvas, via: next } } };
}

/** Lead the link into an input through a new reroute. */
export function addReroute(target: string, input: string, pos: Point): Command {
  return (workflow) => {
    const link = workflow.nodes[target]?.links[input];
    if (!link) return workflow;
    const from = viaOf(workflow, target, input) ?? link;
    const scope = scopeOf(target, subgraphsOf(workflow));
    const id = `${scope && `${scope}:`}${freeId(workflow)}`;
    const found = withItems(workflow, "reroutes", (list) => [...list, { id, from: [from.source, from.output], pos: [...pos] }]);
    return withVia(found, target, input, { source: id, output: 0 });
  };
}

/**
 * Connect whatever may be at the ends: a node's output, a reroute, a primitive or a port of a sub-graph to a node's input, a
 * reroute or such a port.
 */
export function wireUp(wire: Link, target: string, input: string): Command {
  return (workflow, types) => {
    const into = itemOf(workflow, target);
    if (into?.part === "reroutes") return feedReroute(wire, target)(workflow, types);
    if (into?.part === "subgraphs") return feedInput(wire, into, input)(workflow, types);
    const around = behind(workflow, target, OUTSIDE);
    if (around) return feedOutput(wire, around, Number(input))(workflow, types);
    const found = lead(workflow, wire);
    if (!workflow.nodes[target]) return workflow;
    if (!found) {
      // An input of a sub-graph that nothing feeds as yet.
      const taking = behind(workflow, wire.source) && inputOf(workflow, types, target, input);
      if (!taking || !assignable(wireType(workflow, types, wire), taking.type)) return workflow;
      return withVia(disconnect(target, input)(workflow, types), target, input, wire);
    }
    const direct = wire.source in workflow.nodes;
    let next: Workflow;
    if ("value" in found) {
      const taking = inputOf(workflow, types, target, input);
      if (!taking?.widget || !assignable(wireType(workflow, types, wire), taking.type)) return workflow;
      next = setValue(target, input, found.value)(disconnect(target, input)(workflow, types), types);
    } else {
      next = connect(found, target, input)(workflow, types);
      const made = next.nodes[target]?.links[input];
      if (made?.source !== found.source || made.output !== found.output) return workflow;
    }
    return withVia(next, target, input, direct ? null : wire);
  };
}

/** Feed a reroute: every input behind it takes the new source, or nothing changes. */
function feedReroute(wire: Link, key: string): Command {
  return (workflow, types) => {
    if (passes(workflow, wire, key)) return workflow;
    const found = withItem(workflow, key, (item) => ({ ...item.data, from: [wire.source, wire.output] }));
    return refed(found, fedBy(workflow, key).map(({ target, input }) => ({ target, input, wire: saidVia(workflow, target, input) })))(workflow, types);
  };
}

/** Feed a sub-graph's input, with all that it feeds inside, or change nothing. */
function feedInput(wire: Link, frame: Item, name: string): Command {
  return (workflow, types) => {
    const inside = `${frame.key}:${INSIDE}`;
    const index = declared(frame, "inputs").findIndex((port) => port.name === name);
    if (index < 0 || passes(workflow, wire, inside, index)) return workflow;
    const fed = fedBy(workflow, inside, index);
    if (!assignable(wireType(workflow, types, wire), declared(frame, "inputs")[index]?.type ?? "*")) return workflow;
    const found = withVia(workflow, frame.key, name, wire);
    return refed(found, fed.map(({ target, input }) => ({ target, input, wire: saidVia(workflow, target, input) })))(workflow, types);
  };
}

/** Lead something else inside to a sub-graph's output, with all that it feeds outside, or change nothing. */
function feedOutput(wire: Link, frame: Item, index: number): Command {
  return (workflow, types) => {
    const port = portsOf(workflow, frame.key).outputs.find((one) => one.index === index);
    if (!port || passes(workflow, wire, frame.key, index)) return workflow;
    // Those that take it are asked below, but not behind a sub-graph that is bypassed.
    if (!assignable(wireType(workflow, types, wire), port.type ?? "*")) return workflow;
    const found = withPorts(workflow, frame.key, "outputs", (list) => list.map((one, at) => (at === index ? { ...one, from: [wire.source, wire.output] } : one)));
    const own = { source: frame.key, output: index };
    return refed(found, port.ends.map(({ node, socket }) => ({ target: node, input: socket, wire: viaOf(workflow, node, socket) ?? own })))(workflow, types);
  };
}

/** The document with another list of what a sub-graph says it takes, or gives. */
export function withPorts(workflow: Workflow, subgraph: string, side: "inputs" | "outputs", change: (list: readonly JsonObject[]) => readonly JsonObject[]): Workflow {
  return withItem(workflow, subgraph, ({ data }) => {
    const list = (Array.isArray(data[side]) ? (data[side] as readonly Json[]) : []).map((item) => (isObject(item) ? item : {}));
    return { ...data, [side]: change(list) };
  });
}

/** `found` with inputs fed anew, as their links on the canvas lead now; the document as it was where one of them cannot be. */
function refed(found: Workflow, ends: readonly { target: string; input: string; wire: Link | null }[]): Command {
  return (workflow, types) => {
    let all = found;
    for (const { target, input, wire } of ends) {
      if (!wire) continue;
      const next = wireUp(wire, target, input)(all, types);
      // One that cannot take the new source would be left with the old link, past it: better none of it.
      if (next === all && !viaOf(all, target, input)) return workflow;
      all = next;
    }
    return all;
  };
}

/** Cut the link into an input, or into a reroute or a sub-graph's port and with it every input behind it. */
export function cutWire(target: string, input: string): Command {
  return (workflow, types) => {
    const part = itemOf(workflow, target)?.part;
    const around = behind(workflow, target, OUTSIDE);
    let fed: readonly { target: string; input: string }[];
    let found: Workflow;
    if (part === "reroutes") {
      fed = fedBy(workflow, target);
      found = withItem(workflow, target, (item) => without<Json>(item.data, ["from"]));
    } else if (part === "subgraphs") {
      const port = portsOf(workflow, target).inputs.find((one) => one.index !== null && one.name === input);
      fed = (port?.ends ?? []).map(({ node, socket }) => ({ target: node, input: socket }));
      found = withVia(workflow, target, input, null);
    } else if (around) {
      const port = portsOf(workflow, around.key).outputs.find((one) => String(one.index) === input);
      fed = (port?.ends ?? []).map(({ node, socket }) => ({ target: node, input: socket }));
      found = withPorts(workflow, around.key, "outputs", (list) => list.map((one, at) => (String(at) === input ? without(one, ["from"]) : one)));
    } else return withVia(disconnect(target, input)(workflow, types), target, input, null);
    return fed.reduce((next, end) => {
      const left = lead(next, viaOf(workflow, end.target, end.input));
      // A sub-graph's own widget holds again; a bypassed one gives what it gave.
      if (left && !("value" in left)) return next;
      const cut = disconnect(end.target, end.input)(next, types);
      return left ? setValue(end.target, end.input, left.value)(cut, types) : cut;
    }, found);
  };
}

/** Take reroutes away: what went through one comes from where it came from. */
export function removeReroutes(ids: readonly string[]): Command {
  return (workflow) => {
    let found = workflow;
    for (const key of ids) {
      const item = itemOf(found, key);
      if (item?.part !== "reroutes" && item?.part !== "primitives") continue;
      const from = item.part === "reroutes" ? readLink(item.data["from"] ?? null) : null;
      const past = from && !(from.source in found.nodes) ? from : null;
      for (const target of [...Object.keys(found.nodes), ...subgraphsOf(found)])
        for (const input of viaInputs(found, target))
          if (saidVia(found, target, input)?.source === key) found = withVia(found, target, input, past);
      found = withItems(found, "reroutes", (list) =>
        list.some((other) => isObject(other) && readLink(other["from"] ?? null)?.source === key)
          ? list.map((other) =>
              isObject(other) && readLink(other["from"] ?? null)?.source === key
                ? from
                  ? { ...other, from: [from.source, from.output] }
                  : without<Json>(other, ["from"])
                : other,
            )
          : list,
      );
    }
    return found;
  };
}

/** Set a primitive's value, and with it every input that comes from it. */
export function setPrimitive(key: string, value: Json): Command {
  return (workflow, types) => {
    if (itemOf(workflow, key)?.part !== "primitives") return workflow;
    const fed = fedBy(workflow, key);
    const found = withItem(workflow, key, (item) => (item.data["value"] === value ? item.data : { ...item.data, value }));
    return fed.reduce((next, { target, input }) => setValue(target, input, value)(next, types), found);
  };
}
