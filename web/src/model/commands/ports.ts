/** Commands on what sub-graphs say they take and give. */

import { readLink } from "../document";
import { itemOf, itemsOf, withItem } from "../items";
import { isObject, type Json } from "../json";
import { portsOf, type BoxPort } from "../ports";
import { scopeOf, subgraphsOf, type Port } from "../subgraphs";
import type { NodeTypes } from "../types";
import { inputOf } from "../validation";
import { declared, INSIDE, OUTSIDE, saidVia, viaInputs, viaOf, wireType } from "../wires";
import { without, type Link, type Workflow } from "../workflow";
import type { Command } from "./command";
import { disconnect } from "./links";
import { withWires } from "./renaming";
import { cutWire, withPorts, withVia } from "./wires";

type Side = "inputs" | "outputs";

/** Let a sub-graph say of every link across its edge what it is called, as ComfyUI's do. What runs is the same. */
export function declarePorts(id: string): Command {
  return (workflow, types) => {
    const inside = (key: string) => key.startsWith(`${id}:`);
    const subgraphs = subgraphsOf(workflow);
    let found = workflow;
    /** The link led through the ports on its way, which are made where there are none. */
    function led(target: string, input: string, link: Link): Link {
      if (inside(target) === inside(link.source)) return link;
      const [routed, way] = route(found, types, link, scopeOf(target, subgraphs), inputOf(workflow, types, target, input) ? input : null);
      found = routed;
      return way;
    }
    for (const item of itemsOf(workflow)) {
      const wire = item.part === "reroutes" ? readLink(item.data["from"] ?? null) : null;
      if (wire) {
        const next = led(item.key, "", wire);
        if (next !== wire) found = withItem(found, item.key, ({ data }) => ({ ...data, from: [next.source, next.output] }));
      }
      if (item.part !== "subgraphs") continue;
      for (const input of viaInputs(workflow, item.key)) {
        const wire = saidVia(workflow, item.key, input);
        const next = wire && led(item.key, input, wire);
        if (next !== wire) found = withVia(found, item.key, input, next);
      }
      for (const [index, { from: wire }] of declared(item, "outputs").entries()) {
        const next = wire && led(`${item.key}:${OUTSIDE}`, String(index), wire);
        if (next && next !== wire) found = withPorts(found, item.key, "outputs", (list) => list.map((one, at) => (at === index ? { ...one, from: [next.source, next.output] } : one)));
      }
    }
    for (const node of Object.values(workflow.nodes))
      for (const input of new Set([...Object.keys(node.links), ...viaInputs(workflow, node.id)])) {
        const link = node.links[input];
        const wire = viaOf(workflow, node.id, input) ?? (link && link.source in workflow.nodes ? link : null);
        const next = wire && led(node.id, input, wire);
        if (next !== wire) found = withVia(found, node.id, input, next);
      }
    return found;
  };
}

/** The document with ports on the way of a link into a scope, and where the link begins there. */
function route(workflow: Workflow, types: NodeTypes, link: Link, scope: string, name: string | null): [Workflow, Link] {
  const subgraphs = subgraphsOf(workflow);
  const start = scopeOf(link.source, subgraphs);
  if (start === scope) return [workflow, link];
  const type = wireType(workflow, types, link);
  if (!start || scope.startsWith(`${start}:`)) {
    const [fed, outer] = route(workflow, types, link, scopeOf(scope, subgraphs), name);
    const [found, index] = withPort(fed, scope, "inputs", outer, name ?? type.toLowerCase(), type);
    return [found, { source: `${scope}:${INSIDE}`, output: index }];
  }
  const [found, output] = withPort(workflow, start, "outputs", link, type.toLowerCase(), type);
  return route(found, types, { source: start, output }, scope, name);
}

/** The document with a port for a link, and the port's number: the one that has the link, else a new one. */
function withPort(workflow: Workflow, id: string, side: Side, wire: Link, base: string, type: string): [Workflow, number] {
  const frame = itemOf(workflow, id);
  const ports = frame ? declared(frame, side) : [];
  const same = ports.findIndex((port) => {
    const from = side === "outputs" ? port.from : saidVia(workflow, id, port.name);
    return from?.source === wire.source && from.output === wire.output;
  });
  if (same >= 0) return [workflow, same];
  const name = freePortName(base, ports.map((port) => port.name));
  const own = side === "outputs" ? { name, type, from: [wire.source, wire.output] } : { name, type };
  const found = withPorts(workflow, id, side, (list) => [...list, own]);
  return [side === "outputs" ? found : withVia(found, id, name, wire), ports.length];
}

function freePortName(base: string, taken: readonly string[]): string {
  let name = base;
  for (let count = 2; taken.includes(name); count++) name = `${base}_${count}`;
  return name;
}

/** The number of a port of a sub-graph that says what it takes and gives, found by the port or by what is at its ends. */
function indexOf(workflow: Workflow, id: string, side: Side, { index, ends }: Pick<BoxPort, "index" | "ends">): number {
  if (index !== null) return index;
  const [first] = ends;
  const has = (port: BoxPort) => port.ends.some(({ node, socket }) => node === first?.node && socket === first.socket);
  return portsOf(workflow, id)[side].find(has)?.index ?? -1;
}

/** Call a port of a sub-graph otherwise. Nothing changes where another has the name. */
export function renamePort(id: string, side: Side, port: Pick<BoxPort, "index" | "ends">, title: string): Command {
  return (workflow, types) => {
    const name = title.trim();
    const said = declarePorts(id)(workflow, types);
    const index = indexOf(said, id, side, port);
    const frame = itemOf(said, id);
    const ports = frame ? declared(frame, side) : [];
    const old = ports[index]?.name;
    if (!name || old === undefined || ports.some((one) => one.name === name)) return workflow;
    const wire = side === "inputs" ? saidVia(said, id, old) : null;
    let found = withPorts(said, id, side, (list) => list.map((one, at) => (at === index ? { ...one, name } : one)));
    if (wire) found = withVia(withVia(found, id, old, null), id, name, wire);
    return side === "outputs" ? found : withItem(found, id, ({ data }) => renamedValue(data, old, name));
  };
}

function renamedValue(data: { readonly [name: string]: Json }, old: string, name: string | null): { readonly [name: string]: Json } {
  const values = data["values"];
  if (!isObject(values) || values[old] === undefined) return data;
  return { ...data, values: { ...without(values, [old]), ...(name !== null && { [name]: values[old] }) } };
}

/** Take a port of a sub-graph away, with the links through it. Inputs that it fed have their own values again. */
export function removePort(id: string, side: Side, { index, ends }: Pick<BoxPort, "index" | "ends">): Command {
  return (workflow, types) => {
    if (index === null) return ends.reduce((found: Workflow, { node, socket }: Port) => cutWire(node, socket)(found, types), workflow);
    const frame = itemOf(workflow, id);
    const name = frame && declared(frame, side)[index]?.name;
    if (name === undefined) return workflow;
    const source = side === "inputs" ? `${id}:${INSIDE}` : id;
    let found = ends.reduce((next: Workflow, { node, socket }: Port) => disconnect(node, socket)(next, types), workflow);
    if (side === "inputs") found = withItem(withVia(found, id, name, null), id, ({ data }) => renamedValue(data, name, null));
    found = withWires(found, (wire) => {
      if (wire.source !== source || wire.output < index) return wire;
      return wire.output === index ? null : { source, output: wire.output - 1 };
    });
    return withPorts(found, id, side, (list) => list.filter((_, at) => at !== index));
  };
}
