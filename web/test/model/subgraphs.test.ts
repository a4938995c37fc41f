import { expect, test } from "vitest";
import { gatesOf, gathered, inputName, outputName } from "../../src/model/boundary";
import {
  addGroup,
  addNode,
  addNote,
  addReroute,
  all,
  connect,
  declarePorts,
  fragmentOf,
  packNodes,
  paste,
  removeItems,
  setValue,
  unpackSubgraph,
  wireUp,
} from "../../src/model/commands";
import { readWorkflow, writeWorkflow } from "../../src/model/document";
import { itemsOf } from "../../src/model/items";
import { parse, stringify } from "../../src/model/json";
import { scopeOf, subgraphsOf } from "../../src/model/subgraphs";
import { lead, saidVia, viaOf } from "../../src/model/wires";
import { EMPTY, type Workflow } from "../../src/model/workflow";
import { BUILT as built, TYPES } from "../types";

const placesOf = (workflow: Workflow, part: string) => itemsOf(workflow).filter((item) => item.part === part).map((item) => scopeOf(item.place, subgraphsOf(workflow)));

test("groups and notes made in a sub-graph lie in it, move out when it is unpacked, and go with it", () => {
  const packed = packNodes(["2"], "Prompting")(built, TYPES);
  const filled = all(addNote([310, 100], "inside", "4"), addGroup({ pos: [290, -40], size: [300, 300] }, "Words", "4"), addNote([0, 0], "outside"))(packed, TYPES);
  expect(placesOf(filled, "notes")).toEqual(["4", ""]);
  expect(placesOf(filled, "groups")).toEqual(["4"]);
  // ComfyUI has the groups of a sub-graph in its definition: so has the document.
  expect(filled.extra).not.toHaveProperty("groups");
  expect(readWorkflow(parse(stringify(writeWorkflow(filled))))).toEqual(filled);
  const group = itemsOf(filled).find((item) => item.part === "groups");
  expect(itemsOf(removeItems([group?.key ?? ""])(filled, TYPES)).map((item) => item.part)).toEqual(["notes", "notes", "subgraphs"]);
  const out = unpackSubgraph("4")(filled, TYPES);
  expect(placesOf(out, "notes")).toEqual(["", ""]);
  expect(placesOf(out, "groups")).toEqual([""]);
  // The left upper corner of all that was inside is where the sub-graph was; it lay at 300, 0.
  const corner = itemsOf(out).find((item) => item.part === "groups")?.pos;
  expect([corner, out.nodes["4:2"]?.pos]).toEqual([[300, 0], [310, 40]]);
  const gone = removeItems(["4"])(filled, TYPES);
  expect(itemsOf(gone).map((item) => item.data["text"])).toEqual(["outside"]);
  expect(Object.keys(gone.nodes)).toEqual(["1", "3"]);
});

test("a sub-graph is made of notes, groups, reroutes and other sub-graphs as well", () => {
  const noted = all(addNote([300, 90], "words"), addGroup({ pos: [290, -30], size: [300, 200] }, "Words"), addReroute("3", "positive", [560, 5]))(built, TYPES);
  const once = packNodes(["2"], "Inner")(noted, TYPES);
  const keys = itemsOf(once).map((item) => item.key);
  const twice = packNodes([...keys, "3"], "Outer")(once, TYPES);
  const outer = [...subgraphsOf(twice)].find((id) => !id.includes(":")) as string;
  expect(new Set([...placesOf(twice, "notes"), ...placesOf(twice, "groups"), ...placesOf(twice, "reroutes")])).toEqual(new Set([outer]));
  expect(Object.keys(twice.nodes).sort()).toEqual(["1", `${outer}:3`, `${outer}:5:2`]);
  expect(viaOf(twice, `${outer}:3`, "positive")).toEqual({ source: `${outer}:4`, output: 0 });
  expect(Object.values(twice.nodes).flatMap((node) => Object.values(node.links)).every((link) => link.source in twice.nodes)).toBe(true);
});

test("a copy of a sub-graph has all that is in it, under ids of its own", () => {
  const packed = all(packNodes(["2"], "Prompting"), addNote([310, 100], "inside", "4"), addGroup({ pos: [290, -40], size: [300, 300] }, "Words", "4"), setValue("4:2", "text", "a fox"))(built, TYPES);
  const fragment = readWorkflow(parse(stringify(writeWorkflow(fragmentOf(packed, ["4"])))));
  const copied = paste(fragment, [50, 60], false)(packed, TYPES);
  expect([...subgraphsOf(copied)]).toEqual(["4", "5"]);
  expect(copied.nodes["5:2"]?.values["text"]).toBe("a fox");
  expect(copied.nodes["5:2"]?.pos).toEqual(packed.nodes["4:2"]?.pos);
  expect(copied.nodes["5:2"]?.links).toEqual({});
  expect(placesOf(copied, "notes")).toEqual(["4", "5"]);
  expect(placesOf(copied, "groups")).toEqual(["4", "5"]);
  // With what feeds it, and into another sub-graph.
  const inner = paste(fragmentOf(packed, ["4"]), [0, 0], true, "4")(packed, TYPES);
  expect(inner.nodes["4:5:2"]?.links).toEqual(packed.nodes["4:2"]?.links);
});

test("what is copied from within a sub-graph says nothing of that sub-graph's inputs", () => {
  const packed = all(packNodes(["2"], "Prompting"), declarePorts("4"), packNodes(["4:2"], "Inner"))(built, TYPES);
  const copied = paste(fragmentOf(packed, ["4:5"]), [0, 0])(packed, TYPES);
  expect(copied.nodes["6:2"]?.links).toEqual({});
  expect(saidVia(copied, "6:2", "clip")).toBeNull();
  expect(saidVia(copied, "4:5:2", "clip")).toEqual({ source: "4:-10", output: 0 });
});

test("no sub-graph gets the number of one that was unpacked, whose nodes would lie in it", () => {
  const unpacked = all(packNodes(["2"], "Prompting"), unpackSubgraph("4"))(built, TYPES);
  expect([...subgraphsOf(packNodes(["1"], "Loading")(unpacked, TYPES))]).toEqual(["5"]);
});

test("an open sub-graph tells where its links come from and lead to, one gate for each", () => {
  const more = all(addNode("Encode", [300, 200]), connect({ source: "1", output: 1 }, "4", "clip"), packNodes(["2", "4"], "Prompting"))(built, TYPES);
  expect(gatesOf(more, "5")).toEqual([
    {
      side: "in",
      source: { source: "1", output: 1 },
      ends: [
        { node: "5:2", socket: "clip" },
        { node: "5:4", socket: "clip" },
      ],
    },
    { side: "out", source: { source: "5:2", output: 0 }, ends: [{ node: "3", socket: "positive" }] },
  ]);
});

/** As ComfyUI's format is read: a reroute inside that the sub-graph's input feeds, one outside that feeds that, and an output with a name. */
const drawn: Workflow = {
  ...packNodes(["2"], "Prompting")(built, TYPES),
  extra: {
    canvas: {
      reroutes: [
        { id: "9", from: ["1", 1], pos: [100, 100] },
        { id: "4:8", from: ["4:-10", 0], pos: [200, 0] },
      ],
      subgraphs: [
        {
          id: "4",
          name: "Prompting",
          inputs: [{ name: "words", type: "CLIP" }],
          outputs: [{ name: "result", type: "CONDITIONING", from: ["4:2", 0] }],
          pos: [700, 0],
        },
      ],
      via: { "4": { words: ["9", 0] }, "4:2": { clip: ["4:8", 0] }, "3": { positive: ["4", 0] } },
    },
  },
};

test("a link is followed through reroutes into a sub-graph and out of it, and its inputs and outputs have their names", () => {
  expect(lead(drawn, { source: "4:8", output: 0 })).toEqual({ source: "1", output: 1 });
  expect(viaOf(drawn, "4:2", "clip")).toEqual({ source: "4:8", output: 0 });
  expect(viaOf(drawn, "3", "positive")).toEqual({ source: "4", output: 0 });
  expect(inputName(drawn, "4", { node: "4:2", socket: "clip" })).toBe("words");
  expect(outputName(drawn, "4", { source: "4:2", output: 0 })).toBe("result");
  // A new source for the reroute outside reaches the node inside.
  const fed = all(addNode("Loader", [0, 0], "7"), wireUp({ source: "7", output: 1 }, "9", "*"))(drawn, TYPES);
  expect(fed.nodes["4:2"]?.links["clip"]).toEqual({ source: "7", output: 1 });
  const unpacked = unpackSubgraph("4")(drawn, TYPES);
  expect(lead(unpacked, { source: "4:8", output: 0 })).toEqual({ source: "1", output: 1 });
  expect(viaOf(unpacked, "4:2", "clip")).toEqual({ source: "4:8", output: 0 });
  expect(viaOf(unpacked, "3", "positive")).toBeNull();
  expect(unpacked.nodes["3"]?.links["positive"]).toEqual({ source: "4:2", output: 0 });
});

test("links that go round in circles on the canvas lead nowhere", () => {
  const canvas = { subgraphs: [{ id: "s", inputs: [], outputs: [{ name: "a", from: ["s", 1] }, { name: "b", from: ["s", 0] }] }] };
  expect(lead({ ...EMPTY, extra: { canvas } }, { source: "s", output: 0 })).toBeNull();
});

test("a run is told of a sub-graph's nodes together", () => {
  const node = (state: "done" | "running" | "cached" | "waiting" | "failed" | "skipped", value = 1, max = 1) => ({ state, value, max });
  const of = (nodes: Record<string, ReturnType<typeof node>>) => gathered({ nodes, problems: [] }, ["a", "b", "c"]);
  expect(of({}).run).toBeUndefined();
  expect(of({ x: node("running") }).run).toBeUndefined();
  expect(of({ a: node("done"), b: node("running", 5, 10) })).toMatchObject({ at: "b", run: { state: "running", value: 1.5, max: 3 } });
  expect(of({ a: node("cached"), b: node("cached") }).run?.state).toBe("cached");
  expect(of({ a: node("cached"), b: node("done") }).run?.state).toBe("done");
  expect(of({ a: node("done"), b: node("waiting") }).run?.state).toBe("waiting");
  // What does not run, because nothing asks for it or what it needs failed, keeps nothing waiting.
  expect(of({ a: node("skipped"), b: node("skipped") }).run?.state).toBe("skipped");
  expect(of({ a: node("skipped"), b: node("done") }).run).toMatchObject({ state: "done", value: 2 });
  expect(of({ a: node("skipped"), b: node("cached") }).run?.state).toBe("cached");
  expect(of({ a: node("skipped"), b: node("waiting") }).run?.state).toBe("waiting");
  const image = { filename: "x.png", subfolder: "", type: "output" };
  const problem = { code: "x", message: "It broke.", severity: "error", node: "b" } as const;
  const failed = gathered({ nodes: { a: { ...node("done"), images: [image] }, b: node("failed") }, problems: [problem, { ...problem, node: "z" }] }, ["a", "b"]);
  expect([failed.run?.state, failed.run?.images, failed.problems]).toEqual(["failed", [image], [problem]]);
});
