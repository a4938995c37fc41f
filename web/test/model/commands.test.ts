import fc from "fast-check";
import { expect, test } from "vitest";
import { temporal } from "zundo";
import { createStore } from "zustand/vanilla";
import {
  addGroup,
  addNode,
  addNote,
  addReroute,
  advanceSeeds,
  align,
  all,
  changeItem,
  collapseNodes,
  colourItems,
  connect,
  cutWire,
  disconnect,
  distribute,
  fragmentOf,
  moveItems,
  moveNodes,
  packNodes,
  paste,
  removeItems,
  removeNodes,
  resizeItem,
  resizeNode,
  setControl,
  setMode,
  setPrimitive,
  setTitle,
  setValue,
  titleNode,
  unpackSubgraph,
  wireUp,
  type Command,
} from "../../src/model/commands";
import { readWorkflow, writeWorkflow } from "../../src/model/document";
import { parse, stringify } from "../../src/model/json";
import { itemsOf } from "../../src/model/items";
import { arranged } from "../../src/model/layout";
import { portsOf } from "../../src/model/ports";
import { standsFor, subgraphsOf } from "../../src/model/subgraphs";
import { viaOf } from "../../src/model/wires";
import { EMPTY, type Mode, type Workflow } from "../../src/model/workflow";
import { BUILT as built, TYPES } from "../types";


test("a graph is built, with initial values and free ids", () => {
  expect(Object.keys(built.nodes)).toEqual(["1", "2", "3"]);
  expect(built.nodes["3"]?.values).toEqual({ seed: 0, steps: 20, cfg: 8 });
  expect(built.nodes["3"]?.links).toEqual({ model: { source: "1", output: 0 }, positive: { source: "2", output: 0 } });
});

test("a link of the wrong type, to nowhere or around in a circle is not made", () => {
  expect(connect({ source: "1", output: 0 }, "2", "clip")(built, TYPES)).toBe(built);
  expect(connect({ source: "1", output: 9 }, "2", "clip")(built, TYPES)).toBe(built);
  expect(connect({ source: "1", output: 1 }, "9", "clip")(built, TYPES)).toBe(built);
  expect(connect({ source: "3", output: 0 }, "3", "latent")(built, TYPES)).toBe(built);
  const longer = all(addNode("Refine", [0, 0], "4"), connect({ source: "3", output: 0 }, "4", "latent"))(built, TYPES);
  expect(connect({ source: "4", output: 0 }, "3", "latent")(longer, TYPES)).toBe(longer);
});

test("removing a node cuts its links and leaves the other nodes as they are", () => {
  const found = removeNodes(["2"])(built, TYPES);
  expect(found.nodes["3"]?.links).toEqual({ model: { source: "1", output: 0 } });
  expect(found.nodes["1"]).toBe(built.nodes["1"]);
});

test("seeds move on as their control says", () => {
  const largest = 18446744073709551615n;
  const seed = (control: Parameters<typeof setControl>[2], value: number | bigint) =>
    all(setValue("3", "seed", value), setControl("3", "seed", control), advanceSeeds())(built, TYPES).nodes["3"]?.values["seed"];
  expect(seed("fixed", 5)).toBe(5);
  expect(seed("increment", 9007199254740991)).toBe(9007199254740992n);
  expect(seed("increment", largest)).toBe(0);
  expect(seed("decrement", 0)).toBe(largest);
  expect(seed("randomize", largest)).not.toBe(largest);
});

test("a copy keeps the links among its nodes, and those from others where it is of the same document", () => {
  const copy = (outer: boolean) => paste(fragmentOf(built, ["2", "3"]), [10, 20], outer)(built, TYPES);
  expect(copy(false).nodes["4"]?.links).toEqual({});
  expect(copy(false).nodes["5"]?.links).toEqual({ positive: { source: "4", output: 0 } });
  expect(copy(true).nodes["5"]?.links).toEqual({ model: { source: "1", output: 0 }, positive: { source: "4", output: 0 } });
  expect(copy(true).nodes["5"]?.pos).toEqual([610, 20]);
  expect(copy(true).nodes["3"]).toBe(built.nodes["3"]);
});

test("a copy is the same after it went through the clipboard's text", () => {
  const noted = all(addNote([5, 5], "hello"), addGroup({ pos: [0, 0], size: [900, 300] }, "all"), setValue("3", "seed", 2n ** 64n - 1n))(built, TYPES);
  const fragment = fragmentOf(noted, ["3", ...itemsOf(noted).map((item) => item.key)]);
  const read = readWorkflow(parse(stringify(writeWorkflow(fragment))));
  const [one, other] = [paste(fragment, [0, 0])(noted, TYPES), paste(read, [0, 0])(noted, TYPES)];
  expect(other.nodes["4"]?.values["seed"]).toBe(2n ** 64n - 1n);
  expect(itemsOf(other).map((item) => item.data["text"] ?? item.data["title"])).toEqual(["all", "all", "hello", "hello"]);
  expect({ ...other.nodes["4"], links: {} }).toEqual({ ...one.nodes["4"], links: {} });
});

test("a reroute carries a link, changes what is behind it, and is taken out without a trace in the nodes", () => {
  const routed = all(addReroute("3", "model", [5, 5]), addNode("Loader", [0, 0], "9"))(built, TYPES);
  expect(viaOf(routed, "3", "model")).toEqual({ source: "4", output: 0 });
  expect(routed.nodes).toEqual({ ...built.nodes, "9": routed.nodes["9"] });
  const moved = wireUp({ source: "9", output: 0 }, "4", "*")(routed, TYPES);
  expect(moved.nodes["3"]?.links["model"]).toEqual({ source: "9", output: 0 });
  // A CLIP fits none of what is behind it.
  expect(wireUp({ source: "9", output: 1 }, "4", "*")(routed, TYPES)).toBe(routed);
  const gone = removeItems(["4"])(moved, TYPES);
  expect(gone.nodes).toEqual(moved.nodes);
  expect(viaOf(gone, "3", "model")).toBeNull();
  expect(cutWire("4", "*")(moved, TYPES).nodes["3"]?.links).not.toHaveProperty("model");
});

test("a primitive sets every input that comes from it", () => {
  const primitive = { id: "p", value: 20, pos: [0, 0] };
  const start: Workflow = { ...built, extra: { canvas: { primitives: [primitive], via: {} } } };
  const fed = all(addNode("Sample", [0, 0], "9"), wireUp({ source: "p", output: 0 }, "3", "steps"), wireUp({ source: "p", output: 0 }, "9", "steps"))(start, TYPES);
  const set = setPrimitive("p", 33)(fed, TYPES);
  expect([set.nodes["3"]?.values["steps"], set.nodes["9"]?.values["steps"]]).toEqual([33, 33]);
  expect(wireUp({ source: "p", output: 0 }, "3", "model")(start, TYPES)).toBe(start);
});

test("a sub-graph is made of nodes, takes and gives what their links say, and is unpacked where it lies", () => {
  const declared: Workflow = { ...built, parameters: { prompt: { node: "2", input: "text" }, all: [{ node: "2", input: "text" }] } };
  const packed = packNodes(["2"], "Prompting")(declared, TYPES);
  expect(Object.keys(packed.nodes).sort()).toEqual(["1", "3", "4:2"]);
  expect(packed.nodes["3"]?.links["positive"]).toEqual({ source: "4:2", output: 0 });
  expect(packed.parameters).toEqual({ prompt: { node: "4:2", input: "text" }, all: [{ node: "4:2", input: "text" }] });
  const { inputs, outputs } = portsOf(packed, "4");
  expect([inputs, outputs].map((ports) => ports.map(({ node, socket, ends }) => [node, socket, ends]))).toEqual([
    [["4:2", "clip", [{ node: "4:2", socket: "clip" }]]],
    [["4:2", "0", [{ node: "3", socket: "positive" }]]],
  ]);
  expect(["1", "4", "4:2"].map((node) => standsFor(node, "", subgraphsOf(packed)))).toEqual(["1", "4", "4"]);
  expect(["1", "4", "4:2"].map((node) => standsFor(node, "4", subgraphsOf(packed)))).toEqual([null, null, "4:2"]);
  const moved = moveItems(new Map([["4", [1000, 50]]]))(packed, TYPES);
  const unpacked = unpackSubgraph("4")(moved, TYPES);
  expect(unpacked.nodes["4:2"]?.pos).toEqual([1000, 50]);
  expect(subgraphsOf(unpacked).size).toBe(0);
  expect(Object.keys(removeItems(["4"])(moved, TYPES).nodes)).toEqual(["1", "3"]);
});

test("nodes, notes and groups take a colour, where ComfyUI's format has it, and give it back", () => {
  const look = { color: "#223", bgcolor: "#335", group: "#3f789e" };
  const start = all(addNote([0, 0]), addGroup({ pos: [0, 0], size: [9, 9] }, "g"), setControl("3", "seed", "increment"))(built, TYPES);
  const keys = ["2", "3", "§notes n1", "§groups n1"];
  const coloured = colourItems(keys, look)(start, TYPES);
  expect(coloured.nodes["2"]?.meta).toEqual({ ui: { color: "#223", bgcolor: "#335" } });
  expect(coloured.nodes["3"]?.meta).toEqual({ ui: { control: { seed: "increment" }, color: "#223", bgcolor: "#335" } });
  expect(itemsOf(coloured).map((item) => item.data["color"])).toEqual(["#3f789e", "#223"]);
  expect(readWorkflow(parse(stringify(writeWorkflow(coloured))))).toEqual(coloured);
  expect(colourItems(keys, look)(coloured, TYPES)).toBe(coloured);
  const plain = colourItems(keys.slice(0, 3), null)(coloured, TYPES);
  expect([plain.nodes, itemsOf(plain)[1]?.data]).toEqual([start.nodes, itemsOf(start)[1]?.data]);
});

test("boxes are aligned and distributed", () => {
  const boxes = new Map([
    ["1", { pos: [0, 0], size: [100, 50] }],
    ["2", { pos: [300, 10], size: [200, 50] }],
    ["3", { pos: [600, 0], size: [100, 90] }],
  ] as const);
  const places = (command: Command) => Object.values(command(built, TYPES).nodes).map((node) => node.pos);
  expect(places(align(boxes, "right"))).toEqual([[600, 0], [500, 10], [600, 0]]);
  expect(places(align(boxes, "bottom"))).toEqual([[0, 40], [300, 40], [600, 0]]);
  expect(places(align(boxes, "middle"))).toEqual([[0, 20], [300, 20], [600, 0]]);
  expect(places(distribute(boxes, "across"))).toEqual([[0, 0], [250, 10], [600, 0]]);
});

test("auto layout puts no two nodes on each other, and what feeds to the left", async () => {
  const boxes = new Map(Object.keys(built.nodes).map((id) => [id, { pos: [7, 9], size: [260, 200] } as const]));
  const places = await arranged(built, boxes);
  expect(Math.min(...[...places.values()].map(([x]) => x))).toBe(7);
  expect(Math.min(...[...places.values()].map(([, y]) => y))).toBe(9);
  const left = (id: string) => places.get(id)?.[0] as number;
  expect(left("1") + 260).toBeLessThan(left("2"));
  expect(left("2") + 260).toBeLessThan(left("3"));
});

const id = fc.integer({ min: 1, max: 6 }).map(String);
const input = fc.constantFrom("clip", "model", "positive", "latent", "amount", "steps", "seed", "text");
const point = fc.tuple(fc.integer({ min: -500, max: 500 }), fc.integer({ min: -500, max: 500 }));
const key = fc.tuple(fc.constantFrom("notes", "groups"), fc.integer({ min: 1, max: 3 })).map(([part, index]) => `§${part} n${index}`);
const scope = fc.integer({ min: 0, max: 3 });
/** A sub-graph that is there, or the workflow itself. */
const open = (workflow: Workflow, index: number) => [...subgraphsOf(workflow)][index] ?? "";
export const command: fc.Arbitrary<Command> = fc.oneof(
  fc.tuple(fc.constantFrom(...TYPES.keys()), point).map(([type, pos]) => addNode(type, pos)),
  fc.tuple(id, fc.integer({ min: 0, max: 1 }), id, input).map(([source, output, target, name]) =>
    connect({ source, output }, target, name),
  ),
  fc.tuple(id, input).map(([target, name]) => disconnect(target, name)),
  fc.array(id, { maxLength: 3 }).map(removeNodes),
  fc.array(fc.tuple(id, point), { maxLength: 3 }).map((places) => moveNodes(new Map(places))),
  fc.tuple(id, point).map(([node, size]) => resizeNode(node, size)),
  fc.tuple(id, fc.string()).map(([node, title]) => titleNode(node, title)),
  fc.tuple(fc.array(id), fc.boolean()).map(([nodes, collapsed]) => collapseNodes(nodes, collapsed)),
  fc.tuple(fc.array(id), fc.constantFrom<Mode>(0, 2, 4)).map(([nodes, mode]) => setMode(nodes, mode)),
  fc.tuple(id, fc.constantFrom("text", "seed", "cfg"), fc.oneof(fc.string(), fc.bigInt({ min: 2n ** 60n, max: 2n ** 64n - 1n }))).map(
    ([node, name, value]) => setValue(node, name, value),
  ),
  fc.string().map(setTitle),
  fc.tuple(point, fc.string(), scope).map(([pos, text, around]): Command => (workflow, types) => addNote(pos, text, open(workflow, around))(workflow, types)),
  fc.tuple(point, fc.string(), scope).map(([pos, title, around]): Command => (workflow, types) => addGroup({ pos, size: [100, 100] }, title, open(workflow, around))(workflow, types)),
  fc.tuple(id, input, point).map(([target, name, pos]) => addReroute(target, name, pos)),
  fc.tuple(id, id, fc.constantFrom("*", "clip", "model", "latent")).map(([source, target, name]) => wireUp({ source, output: 0 }, target, name)),
  fc.tuple(id, input).map(([target, name]) => cutWire(target, name)),
  fc.tuple(fc.array(fc.oneof(id, key), { maxLength: 3 }), fc.string()).map(([ids, name]) => packNodes(ids, name)),
  fc.tuple(scope, fc.constantFrom("unpack", "copy", "remove"), scope).map(([index, what, into]): Command => (workflow, types) => {
    const frame = open(workflow, index);
    if (what === "unpack") return unpackSubgraph(frame)(workflow, types);
    if (what === "remove") return removeItems([frame])(workflow, types);
    return paste(fragmentOf(workflow, [frame]), [10, 10], true, open(workflow, into))(workflow, types);
  }),
  fc.tuple(fc.array(fc.oneof(id, key), { maxLength: 3 }), fc.boolean()).map(([ids, on]) => colourItems(ids, on ? { color: "#223", bgcolor: "#335", group: "#3f789e" } : null)),
  fc.tuple(key, fc.string()).map(([item, text]) => changeItem(item, { text })),
  fc.tuple(key, point).map(([item, pos]) => resizeItem(item, { pos, size: [50, 60] })),
  fc.array(fc.oneof(id, key), { maxLength: 3 }).map(removeItems),
  fc.array(fc.tuple(fc.oneof(id, key), point), { maxLength: 3 }).map((places) => moveItems(new Map(places))),
  fc.tuple(fc.array(fc.oneof(id, key), { maxLength: 3 }), point, fc.boolean()).map(
    ([ids, by, outer]): Command => (workflow, types) => paste(fragmentOf(workflow, ids), by, outer)(workflow, types),
  ),
  fc.constant(setControl("3", "seed", "increment")),
  fc.constant(advanceSeeds()),
);
const session = fc.array(command, { maxLength: 40 });

test("after any commands, export and import give the same workflow", () => {
  fc.assert(
    fc.property(session, (commands) => {
      const found = all(...commands)(EMPTY, TYPES);
      expect(readWorkflow(parse(stringify(writeWorkflow(found))))).toEqual(found);
    }),
  );
});

test("undo of all gives the start, and redo of all the end", () => {
  fc.assert(
    fc.property(session, (commands) => {
      const store = createStore<{ workflow: Workflow }>()(
        temporal(() => ({ workflow: built }), { equality: (one, other) => one.workflow === other.workflow }),
      );
      for (const one of commands) store.setState(({ workflow }) => ({ workflow: one(workflow, TYPES) }));
      const end = store.getState().workflow;
      const history = store.temporal.getState();
      history.undo(commands.length);
      expect(store.getState().workflow).toBe(built);
      history.redo(commands.length);
      expect(store.getState().workflow).toBe(end);
    }),
  );
});

test("no commands make a cycle or a link from a node that is not there", () => {
  fc.assert(
    fc.property(session, (commands) => {
      const { nodes } = all(...commands)(EMPTY, TYPES);
      const sorted = new Set<string>();
      for (let count = -1; count !== sorted.size; ) {
        count = sorted.size;
        for (const node of Object.values(nodes))
          if (Object.values(node.links).every((link) => sorted.has(link.source))) sorted.add(node.id);
      }
      expect(sorted.size).toBe(Object.keys(nodes).length);
    }),
  );
});
