/** Commands on reroutes and primitives, and on links that begin or end at them. */

import { itemOf, withItem, withItems } from "../items";
import { isObject, type Json, type JsonObject } from "../json";
import { scopeOf, subgraphsOf } from "../subgraphs";
import { assignable } from "../types";
import { inputOf } from "../validation";
import { fedBy, lead, saidVia, viaInputs, viaOf, wireType } from "../wires";
import { freeId, without, type Link, type Point, type Workflow } from "../workflow";
import type { Command } from "./command";
import { connect, disconnect } from "./links";
import { setValue } from "./values";

function withVia(workflow: Workflow, target: string, input: string, wire: Link | null): Workflow {
  if (!wire && !saidVia(workflow, target, input)) return workflow;
  const canvas = isObject(workflow.extra["canvas"]) ? workflow.extra["canvas"] : {};
  const via = isObject(canvas["via"]) ? canvas["via"] : {};
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

/** Connect whatever may be at the ends: a node's output, a reroute or a primitive to a node's input or a reroute. */
export function wireUp(wire: Link, target: string, input: string): Command {
  return (workflow, types) => {
    const into = itemOf(workflow, target);
    if (into?.part === "reroutes") return feedReroute(wire, target)(workflow, types);
    const found = lead(workflow, wire);
    if (!found || !workflow.nodes[target]) return workflow;
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
    const from: Link = wire;
    for (let step: Link | null = wire, count = 0; step && count < 1000; count++) {
      if (step.source === key) return workflow;
      const item = itemOf(workflow, step.source);
      step = item?.part === "reroutes" && Array.isArray(item.data["from"]) ? linkOf(item.data["from"]) : null;
    }
    const fed = fedBy(workflow, key);
    let found = withItem(workflow, key, (item) => ({ ...item.data, from: [from.source, from.output] }));
    for (const { target, input } of fed) {
      const wireIn = saidVia(workflow, target, input);
      if (!wireIn) continue;
      const next = wireUp(wireIn, target, input)(found, types);
      // One that cannot take the new source would be left with the old link, past the reroute: better none of it.
      if (next === found && !viaOf(found, target, input)) return workflow;
      found = next;
    }
    return found;
  };
}

function linkOf(value: Json): Link | null {
  const [source, output] = value as readonly Json[];
  return typeof output === "number" ? { source: String(source), output } : null;
}

/** Cut the link into an input, or into a reroute and with it every input behind it. */
export function cutWire(target: string, input: string): Command {
  return (workflow, types) => {
    if (itemOf(workflow, target)?.part !== "reroutes")
      return withVia(disconnect(target, input)(workflow, types), target, input, null);
    const fed = fedBy(workflow, target);
    const found = withItem(workflow, target, (item) => without<Json>(item.data, ["from"]));
    return fed.reduce((next, end) => disconnect(end.target, end.input)(next, types), found);
  };
}

/** Take reroutes away: what went through one comes from where it came from. */
export function removeReroutes(ids: readonly string[]): Command {
  return (workflow) => {
    let found = workflow;
    for (const key of ids) {
      const item = itemOf(found, key);
      if (item?.part !== "reroutes" && item?.part !== "primitives") continue;
      const from = item.part === "reroutes" && Array.isArray(item.data["from"]) ? linkOf(item.data["from"]) : null;
      const past = from && !(from.source in found.nodes) ? from : null;
      for (const target of [...Object.keys(found.nodes), ...subgraphsOf(found)])
        for (const input of viaInputs(found, target))
          if (saidVia(found, target, input)?.source === key) found = withVia(found, target, input, past);
      found = withItems(found, "reroutes", (list) =>
        list.some((other) => isObject(other) && Array.isArray(other["from"]) && linkOf(other["from"])?.source === key)
          ? list.map((other) =>
              isObject(other) && Array.isArray(other["from"]) && linkOf(other["from"])?.source === key
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
