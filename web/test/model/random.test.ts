/** Random edits of documents with sub-graphs, muted and bypassed ones among them: what holds after each. */

import fc from "fast-check";
import { expect, test } from "vitest";
import { temporal } from "zundo";
import { createStore } from "zustand/vanilla";
import {
  addNode,
  addReroute,
  all,
  connect,
  cutWire,
  declarePorts,
  fragmentOf,
  modeOf,
  offAround,
  packNodes,
  paste,
  removeItems,
  removePort,
  renamePort,
  setMode,
  settled,
  unpackSubgraph,
  wireUp,
  type Command,
} from "../../src/model/commands";
import { readLink, readWorkflow, writeWorkflow } from "../../src/model/document";
import { itemsOf } from "../../src/model/items";
import { isObject, parse, stringify, type Json, type JsonObject } from "../../src/model/json";
import { portsOf } from "../../src/model/ports";
import { scopeOf, subgraphsOf } from "../../src/model/subgraphs";
import { assignable } from "../../src/model/types";
import { inputOf, outputType } from "../../src/model/validation";
import { behind, declared, frameMode, INSIDE, lead, OUTSIDE, viaInputs, viaOf } from "../../src/model/wires";
import { BYPASSED, freeId, MUTED, RUN, type Link, type Mode, type Workflow } from "../../src/model/workflow";
import { BUILT, TYPES } from "../types";

/** A chain of refiners behind the sampler, two of them a sub-graph in another, and what saves; and a primitive. */
const CHAIN = all(
  addNode("Refine", [900, 0]),
  addNode("Refine", [1200, 0]),
  addNode("Refine", [1500, 0]),
  addNode("Save", [1800, 0]),
  connect({ source: "3", output: 0 }, "4", "latent"),
  connect({ source: "4", output: 0 }, "5", "latent"),
  connect({ source: "5", output: 0 }, "6", "latent"),
  connect({ source: "6", output: 0 }, "7", "latent"),
  packNodes(["4", "5"], "Inner"),
  packNodes(["8", "6"], "Outer"),
)(BUILT, TYPES);

const START: Workflow = { ...CHAIN, extra: { canvas: { ...(CHAIN.extra["canvas"] as JsonObject), primitives: [{ id: "20", value: 7, pos: [0, 0] }], via: {} } } };

const step = (command: Command) => (workflow: Workflow): Workflow => settled(workflow, command(workflow, TYPES));
const frames = (workflow: Workflow) => itemsOf(workflow).filter((item) => item.part === "subgraphs");

function pick<T>(list: readonly T[], index: number): T | undefined {
  return list[index % list.length];
}

/** Whatever links can begin at in a scope. */
function sourcesIn(workflow: Workflow, scope: string): Link[] {
  const subgraphs = subgraphsOf(workflow);
  const here = (id: string) => scopeOf(id, subgraphs) === scope;
  return [
    ...Object.values(workflow.nodes).flatMap(({ id, type }) => (here(id) ? (TYPES.get(type)?.outputs ?? []).map((_, output) => ({ source: id, output })) : [])),
    ...itemsOf(workflow).flatMap((item) => {
      if ((item.part === "reroutes" || item.part === "primitives") && here(item.key)) return [{ source: item.key, output: 0 }];
      if (item.part === "subgraphs" && here(item.key)) return declared(item, "outputs").map((_, output) => ({ source: item.key, output }));
      return item.key === scope ? declared(item, "inputs").map((_, output) => ({ source: `${scope}:${INSIDE}`, output })) : [];
    }),
  ];
}

function targetsIn(workflow: Workflow, scope: string): [string, string][] {
  const subgraphs = subgraphsOf(workflow);
  const here = (id: string) => scopeOf(id, subgraphs) === scope;
  return [
    ...Object.values(workflow.nodes).flatMap(({ id, type }) =>
      here(id) ? (TYPES.get(type)?.inputs ?? []).map(({ name }): [string, string] => [id, name]) : [],
    ),
    ...itemsOf(workflow).flatMap((item): [string, string][] => {
      if (item.part === "reroutes" && here(item.key)) return [[item.key, "*"]];
      if (item.part === "subgraphs" && here(item.key)) return declared(item, "inputs").map(({ name }) => [item.key, name]);
      return item.key === scope && item.part === "subgraphs" ? declared(item, "outputs").map((_, index) => [`${scope}:${OUTSIDE}`, String(index)]) : [];
    }),
  ];
}

const number = fc.nat({ max: 999 });
const side = fc.constantFrom("inputs", "outputs");
const mode = fc.constantFrom<Mode>(RUN, MUTED, BYPASSED);

/** A command that depends on what is there, with a name for the report of a failure. */
const named = (name: string, make: (workflow: Workflow) => Command | undefined): Command =>
  Object.assign<Command, object>((workflow, types) => make(workflow)?.(workflow, types) ?? workflow, { toString: () => name });
/** One that happens in a scope. */
const inScope = (name: string, index: number, make: (workflow: Workflow, scope: string) => Command | undefined): Command =>
  named(`${name} in ${index}`, (workflow) => make(workflow, pick(["", ...subgraphsOf(workflow)], index) ?? ""));
/** One that is done to a sub-graph. */
const toFrame = (name: string, index: number, make: (frame: string, workflow: Workflow) => Command | undefined): Command =>
  named(`${name} ${index}`, (workflow) => {
    const frame = pick([...subgraphsOf(workflow)], index);
    return frame === undefined ? undefined : make(frame, workflow);
  });
const itemsIn = (workflow: Workflow, scope: string): string[] =>
  [...Object.keys(workflow.nodes), ...itemsOf(workflow).map(({ key }) => key)].filter((id) => scopeOf(id, subgraphsOf(workflow)) === scope);
const picked = <T>(list: readonly T[], ...indices: number[]): T[] => indices.flatMap((index) => pick(list, index) ?? []);

const adding = fc
  .tuple(number, fc.constantFrom(...TYPES.keys()))
  .map(([at, type]) => inScope(`add ${type}`, at, (workflow, scope) => addNode(type, [0, 0], `${scope && `${scope}:`}${freeId(workflow)}`)));
const wiring = fc.tuple(number, number, number).map(([at, from, to]) =>
  inScope(`wire ${from} to ${to}`, at, (workflow, scope) => {
    const [wire, target] = [pick(sourcesIn(workflow, scope), from), pick(targetsIn(workflow, scope), to)];
    return wire && target && wireUp(wire, ...target);
  }),
);
const cutting = fc.tuple(number, number).map(([at, to]) => inScope(`cut ${to}`, at, (workflow, scope) => all(...picked(targetsIn(workflow, scope), to).map((target) => cutWire(...target)))));
/** As the list does it, from whatever node to whatever other. */
const crossing = fc.tuple(number, number, number).map(([from, to, which]) =>
  named(`connect ${from} ${which} to ${to}`, (workflow) => {
    const nodes = Object.values(workflow.nodes);
    const [source, target] = [pick(nodes, from), pick(nodes, to)];
    const input = target && pick(TYPES.get(target.type)?.inputs ?? [], which)?.name;
    return source && target && input !== undefined && !offAround(workflow, source.id) ? wireUp({ source: source.id, output: which % 2 }, target.id, input) : undefined;
  }),
);
const rerouting = fc
  .tuple(number, number)
  .map(([at, to]) => inScope(`reroute ${to}`, at, (workflow, scope) => all(...picked(targetsIn(workflow, scope), to).map((target) => addReroute(...target, [0, 0])))));
const removing = fc
  .tuple(number, fc.array(number, { minLength: 1, maxLength: 2 }))
  .map(([at, which]) => inScope(`remove ${which.join()}`, at, (workflow, scope) => removeItems(picked(itemsIn(workflow, scope), ...which))));
const moding = fc.tuple(number, number, mode).map(([at, which, to]) => inScope(`mode ${to} of ${which}`, at, (workflow, scope) => setMode(picked(itemsIn(workflow, scope), which), to)));
const framing = fc.tuple(number, mode).map(([at, to]) => toFrame(`mode ${to} of sub-graph`, at, (frame) => setMode([frame], to)));
const declaring = number.map((at) => toFrame("declare", at, declarePorts));
const naming = fc.tuple(number, side, number, fc.constantFrom("a", "b", "latent")).map(([at, on, which, name]) =>
  toFrame(`call ${which} of ${on} ${name}`, at, (frame, workflow) => all(...picked(portsOf(workflow, frame)[on], which).map((port) => renamePort(frame, on, port, name)))),
);
const closing = fc
  .tuple(number, side, number)
  .map(([at, on, which]) => toFrame(`remove ${which} of ${on}`, at, (frame, workflow) => all(...picked(portsOf(workflow, frame)[on], which).map((port) => removePort(frame, on, port)))));
const packing = fc.tuple(number, number, number).map(([at, ...which]) => inScope(`pack ${which.join()}`, at, (workflow, scope) => packNodes(picked(itemsIn(workflow, scope), ...which), "Packed")));
const unpacking = number.map((at) => toFrame("unpack", at, unpackSubgraph));
/** A copy with what feeds it is made where its original is. */
const copying = fc.tuple(number, number, fc.boolean(), number).map(([at, which, outer, into]) =>
  inScope(`copy ${which} ${outer ? "there" : `into ${into}`}`, at, (workflow, scope) =>
    paste(fragmentOf(workflow, picked(itemsIn(workflow, scope), which)), [10, 10], outer, outer ? scope : pick(["", ...subgraphsOf(workflow)], into)),
  ),
);
const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 6, arbitrary: wiring },
  { weight: 6, arbitrary: framing },
  ...[adding, cutting, removing, moding, declaring, naming, packing, copying].map((arbitrary) => ({ weight: 2, arbitrary })),
  ...[crossing, rerouting, closing, unpacking].map((arbitrary) => ({ weight: 1, arbitrary })),
);

/** What is wrong with a document. */
function faults(workflow: Workflow): string[] {
  const found: string[] = [];
  const subgraphs = subgraphsOf(workflow);
  const begins = (wire: Link, scope: string): boolean => {
    const node = workflow.nodes[wire.source];
    if (node) return wire.output < (TYPES.get(node.type)?.outputs.length ?? 0);
    const around = behind(workflow, wire.source);
    if (around) return (scope === around.key || scope.startsWith(`${around.key}:`)) && wire.output < declared(around, "inputs").length;
    const item = itemsOf(workflow).find(({ key }) => key === wire.source);
    if (!item) return false;
    return item.part === "subgraphs" ? wire.output < declared(item, "outputs").length : wire.output === 0;
  };
  const said = (json: Json | undefined, scope: string, where: string): void => {
    if (json === undefined) return;
    const wire = readLink(json);
    if (!wire || !begins(wire, scope)) found.push(`${where} comes from ${stringify(json)}`);
  };
  const sorted = new Set<string>();
  for (let count = -1; count !== sorted.size; ) {
    count = sorted.size;
    for (const node of Object.values(workflow.nodes)) if (Object.values(node.links).every(({ source }) => sorted.has(source))) sorted.add(node.id);
  }
  for (const node of Object.values(workflow.nodes)) {
    if (!sorted.has(node.id)) found.push(`node ${node.id} waits for itself or for what is not there`);
    for (const [input, link] of Object.entries(node.links)) {
      const taking = inputOf(workflow, TYPES, node.id, input);
      const type = outputType(workflow, TYPES, link);
      if (!(link.source in workflow.nodes)) found.push(`${node.id} ${input} is fed by ${link.source}, which is not there`);
      else if (type === "*" || !taking || !assignable(type, taking.type)) found.push(`${node.id} ${input} takes a ${type} of ${link.source} ${link.output}`);
    }
  }
  const { canvas } = workflow.extra;
  if (isObject(canvas) && isObject(canvas["via"]))
    for (const [target, inputs] of Object.entries(canvas["via"])) {
      const frame = frames(workflow).find(({ key }) => key === target);
      if (!(target in workflow.nodes) && !frame) found.push(`via of ${target}, which is not there`);
      for (const [input, wire] of Object.entries(isObject(inputs) ? inputs : {})) {
        if (frame && !declared(frame, "inputs").some(({ name }) => name === input)) found.push(`via of ${target} ${input}, which is no port`);
        said(wire, scopeOf(target, subgraphs), `via ${target} ${input}`);
      }
    }
  for (const id of Object.keys(workflow.nodes))
    for (const input of viaInputs(workflow, id)) if (!viaOf(workflow, id, input)) found.push(`via of ${id} ${input} does not hold`);
  for (const item of itemsOf(workflow)) {
    if (item.part === "reroutes") said(item.data["from"], scopeOf(item.key, subgraphs), `reroute ${item.key}`);
    if (item.part !== "subgraphs") continue;
    const names = declared(item, "inputs").map(({ name }) => name);
    if (new Set(names).size < names.length) found.push(`${item.key} has two inputs of one name`);
    declared(item, "outputs").forEach(({ from }, index) => said(from ? [from.source, from.output] : undefined, item.key, `output ${index} of ${item.key}`));
    if ((item.data["mode"] ?? RUN) !== frameMode(workflow, item)) found.push(`${item.key} says it is ${String(item.data["mode"])}, and a node runs`);
    for (const { ends } of Object.values(portsOf(workflow, item.key)).flat())
      for (const { node } of ends) if (!(node in workflow.nodes)) found.push(`a port of ${item.key} ends at ${node}`);
  }
  for (const { key } of frames(workflow).filter((item) => frameMode(workflow, item) === BYPASSED))
    for (const { id, links } of Object.values(workflow.nodes))
      for (const [input, { source }] of Object.entries(links))
        if (source.startsWith(`${key}:`) && !id.startsWith(`${key}:`)) found.push(`${id} ${input} comes from within the bypassed ${key}`);
  return found;
}

/** Whether an input is fed by nothing because it would wait for itself past a bypassed sub-graph. */
const circles = (workflow: Workflow): boolean =>
  Object.values(workflow.nodes).some(({ id, links }) =>
    viaInputs(workflow, id).some((input) => {
      const found = lead(workflow, viaOf(workflow, id, input));
      return found && !("value" in found) && !links[input];
    }),
  );

const nodesOf = (workflow: Workflow) => JSON.parse(stringify(writeWorkflow({ ...workflow, extra: {} }))) as Json;

const edits = fc.array(command, { maxLength: 25 });
/** A seed of its own, so that a run of the tests fails only where something changed; another finds more. */
const SHORT = { numRuns: 60, seed: 1 };

test("after any edit the document is whole, settled and read as it is written", () => {
  fc.assert(
    fc.property(edits, (commands) => {
      let found = START;
      for (const one of commands) {
        const edited = one(found, TYPES);
        const next = settled(found, edited);
        expect(settled(found, next), `settled twice after ${String(one)}`).toEqual(next);
        expect(settled(next, { ...next }).nodes, `settled anew after ${String(one)}`).toEqual(next.nodes);
        expect(faults(next), String(one)).toEqual([]);
        found = next;
      }
      expect(readWorkflow(parse(stringify(writeWorkflow(found))))).toEqual(found);
    }),
    SHORT,
  );
});

test("a sub-graph that is muted or bypassed and then runs is what it was", () => {
  fc.assert(
    fc.property(edits, fc.constantFrom<Mode>(MUTED, BYPASSED), fc.constantFrom<Mode>(RUN, MUTED, BYPASSED), (commands, mode, between) => {
      const found = commands.reduce((next, one) => step(one)(next), START);
      for (const { key } of frames(found)) {
        if (modeOf(found, key) !== RUN || offAround(found, key)) continue;
        // One that is bypassed passes on what comes into the input of an output's place: with another input that may be another.
        if (frames(found).some((frame) => frameMode(found, frame) === BYPASSED && portsOf(found, frame.key).inputs.some(({ index }) => index === null))) continue;
        const off = step(setMode([key], mode))(found);
        expect(modeOf(off, key)).toBe(mode);
        const over = step(setMode([key], between))(off);
        // Of links that lead round in a circle past several sub-graphs, which one is left out depends on what came first.
        if ([found, off, over].some(circles)) continue;
        const again = step(setMode([key], RUN))(over);
        expect(nodesOf(again), `${key} ${mode} ${between}`).toEqual(nodesOf(found));
        expect(frames(again).map((frame) => frameMode(again, frame))).toEqual(frames(found).map((frame) => frameMode(found, frame)));
      }
    }),
    SHORT,
  );
});

test("undo of all edits gives the start", () => {
  fc.assert(
    fc.property(edits, (commands) => {
      const before = stringify(writeWorkflow(START));
      const store = createStore<{ workflow: Workflow }>()(temporal(() => ({ workflow: START }), { equality: (one, other) => one.workflow === other.workflow }));
      for (const one of commands) store.setState(({ workflow }) => ({ workflow: step(one)(workflow) }));
      const history = store.temporal.getState();
      history.undo(commands.length);
      expect(store.getState().workflow).toBe(START);
      expect(stringify(writeWorkflow(START))).toBe(before);
    }),
    SHORT,
  );
});
