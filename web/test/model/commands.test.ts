import fc from "fast-check";
import { expect, test } from "vitest";
import { temporal } from "zundo";
import { createStore } from "zustand/vanilla";
import {
  addNode,
  advanceSeeds,
  all,
  collapseNodes,
  connect,
  disconnect,
  moveNodes,
  removeNodes,
  resizeNode,
  setControl,
  setMode,
  setTitle,
  setValue,
  titleNode,
  type Command,
} from "../../src/model/commands";
import { readWorkflow, writeWorkflow } from "../../src/model/document";
import { parse, stringify } from "../../src/model/json";
import { EMPTY, type Mode, type Workflow } from "../../src/model/workflow";
import { TYPES } from "../types";

const built = all(
  addNode("Loader", [0, 0]),
  addNode("Encode", [300, 0]),
  addNode("Sample", [600, 0]),
  connect({ source: "1", output: 1 }, "2", "clip"),
  connect({ source: "1", output: 0 }, "3", "model"),
  connect({ source: "2", output: 0 }, "3", "positive"),
)(EMPTY, TYPES);

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

const id = fc.integer({ min: 1, max: 6 }).map(String);
const input = fc.constantFrom("clip", "model", "positive", "latent", "amount", "steps", "seed", "text");
const point = fc.tuple(fc.integer({ min: -500, max: 500 }), fc.integer({ min: -500, max: 500 }));
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
