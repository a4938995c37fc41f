/** Sub-graphs that are muted or bypassed as a whole. */

import { expect, test } from "vitest";
import { addNode, all, connect, cutWire, declarePorts, fragmentOf, modeOf, offAround, packNodes, paste, removeItems, removeNodes, setMode, settled, unpackSubgraph, wireUp, type Command } from "../../src/model/commands";
import { readWorkflow, writeWorkflow } from "../../src/model/document";
import { isObject, parse, stringify } from "../../src/model/json";
import { portsOf } from "../../src/model/ports";
import { OUTSIDE, saidVia } from "../../src/model/wires";
import { BYPASSED, MUTED, RUN, type Workflow } from "../../src/model/workflow";
import { BUILT, TYPES } from "../types";

const after = (workflow: Workflow, ...commands: Command[]): Workflow => commands.reduce((found, command) => settled(found, command(found, TYPES)), workflow);

/** The sampler feeds two refiners in a row, which are one sub-graph, and they what saves. */
const refined = after(
  BUILT,
  addNode("Refine", [900, 0]),
  addNode("Refine", [1200, 0]),
  addNode("Save", [1500, 0]),
  connect({ source: "3", output: 0 }, "4", "latent"),
  connect({ source: "4", output: 0 }, "5", "latent"),
  connect({ source: "5", output: 0 }, "6", "latent"),
  packNodes(["4", "5"], "Refining"),
);
const modes = (workflow: Workflow) => Object.fromEntries(Object.values(workflow.nodes).flatMap(({ id, mode }) => (mode === RUN ? [] : [[id, mode]])));
const kept = (workflow: Workflow, id: string) => {
  const ui = workflow.nodes[id]?.meta["ui"];
  return isObject(ui) ? ui["mode"] : undefined;
};

test("a muted sub-graph has its nodes muted, each keeps what it was by itself, and runs as it did afterwards", () => {
  const own = after(refined, setMode(["7:5"], BYPASSED));
  const muted = after(own, setMode(["7"], MUTED));
  expect(modeOf(muted, "7")).toBe(MUTED);
  expect(modes(muted)).toEqual({ "7:4": MUTED, "7:5": MUTED });
  expect([kept(muted, "7:4"), kept(muted, "7:5")]).toEqual([undefined, BYPASSED]);
  expect(muted.nodes["6"]).toBe(own.nodes["6"]);
  expect(offAround(muted, "7:4")?.key).toBe("7");
  expect(offAround(muted, "6")).toBeUndefined();
  expect(readWorkflow(parse(stringify(writeWorkflow(muted))))).toEqual(muted);
  const again = after(muted, setMode(["7"], RUN));
  expect(again.nodes).toEqual(own.nodes);
  expect(modeOf(again, "7")).toBe(RUN);
});

test("what a bypassed sub-graph fed comes from its input of the same type, and from inside again when it runs", () => {
  const past = after(refined, setMode(["7"], BYPASSED));
  expect(modes(past)).toEqual({ "7:4": MUTED, "7:5": MUTED });
  expect(past.nodes["6"]?.links["latent"]).toEqual({ source: "3", output: 0 });
  // Inside and at its edge all is as it was, and says so by name.
  expect(past.nodes["7:4"]?.links).toEqual(refined.nodes["7:4"]?.links);
  const { inputs, outputs } = portsOf(past, "7");
  expect([inputs, outputs].map((ports) => ports.map(({ name, type, ends }) => [name, type, ends]))).toEqual([
    [["latent", "LATENT", [{ node: "7:4", socket: "latent" }]]],
    [["latent", "LATENT", [{ node: "6", socket: "latent" }]]],
  ]);
  expect(saidVia(past, "6", "latent")).toEqual({ source: "7", output: 0 });
  const again = after(past, setMode(["7"], RUN));
  expect(again.nodes).toEqual(refined.nodes);
  expect(after(past, setMode(["7"], MUTED)).nodes["6"]).toEqual(refined.nodes["6"]);
});

test("what is changed around a bypassed sub-graph is led past it as well", () => {
  const past = after(refined, setMode(["7"], BYPASSED));
  const other = after(past, addNode("Sample", [0, 500], "8"), wireUp({ source: "8", output: 0 }, "7", "latent"));
  expect([other.nodes["6"]?.links["latent"], other.nodes["7:4"]?.links["latent"]]).toEqual([{ source: "8", output: 0 }, { source: "8", output: 0 }]);
  const cut = after(past, cutWire("7", "latent"));
  expect([cut.nodes["6"]?.links, cut.nodes["7:4"]?.links]).toEqual([{}, {}]);
  expect(after(cut, setMode(["7"], RUN)).nodes["6"]?.links["latent"]).toEqual({ source: "7:5", output: 0 });
  // One more that it feeds.
  const more = after(past, addNode("Save", [1500, 300], "9"), wireUp({ source: "7", output: 0 }, "9", "latent"));
  expect(more.nodes["9"]?.links["latent"]).toEqual({ source: "3", output: 0 });
  expect(after(more, setMode(["7"], RUN)).nodes["9"]?.links["latent"]).toEqual({ source: "7:5", output: 0 });
  // Nothing is before it any more.
  const lost = after(past, removeNodes(["3"]));
  expect(lost.nodes["6"]?.links).toEqual({});
  // Without it nothing goes past it, as with a node.
  expect(after(past, removeItems(["7"])).nodes["6"]?.links).toEqual({});
  expect(after(past, removeItems(["7"])).extra["canvas"]).toEqual({ subgraphs: [], via: {} });
});

test("an output that no input fits feeds nothing while it is bypassed", () => {
  const encoding = after(BUILT, packNodes(["2"], "Prompting"), setMode(["4"], BYPASSED));
  expect(encoding.nodes["3"]?.links).toEqual({ model: { source: "1", output: 0 } });
  expect(after(encoding, setMode(["4"], RUN)).nodes).toEqual(after(BUILT, packNodes(["2"], "Prompting")).nodes);
});

test("nothing wakes in a muted sub-graph, and a node that comes to lie in it is muted with it", () => {
  const muted = after(refined, setMode(["7"], MUTED));
  expect(modes(after(muted, setMode(["7:4"], RUN)))).toEqual(modes(muted));
  const more = after(muted, addNode("Save", [0, 0], "7:8"));
  expect(more.nodes["7:8"]?.mode).toBe(MUTED);
  expect(modes(after(more, setMode(["7"], RUN)))).toEqual({});
  // A step back is a step back: the document before it is not settled anew.
  expect(settled(refined, refined)).toBe(refined);
});

test("one within another runs when both do", () => {
  const nested = after(refined, packNodes(["7", "3"], "Outer"));
  const inner = after(nested, setMode(["8:7"], BYPASSED));
  expect(inner.nodes["6"]?.links["latent"]).toEqual({ source: "8:3", output: 0 });
  const both = after(inner, setMode(["8"], MUTED));
  expect([modeOf(both, "8"), modeOf(both, "8:7")]).toEqual([MUTED, BYPASSED]);
  const out = after(both, setMode(["8"], RUN));
  expect(out.nodes).toEqual(inner.nodes);
  expect(after(out, setMode(["8:7"], RUN)).nodes).toEqual(nested.nodes);
  const first = after(both, setMode(["8:7"], RUN));
  expect([modeOf(first, "8"), modeOf(first, "8:7"), first.nodes["8:7:4"]?.mode]).toEqual([MUTED, RUN, MUTED]);
  expect(after(first, setMode(["8"], RUN)).nodes).toEqual(nested.nodes);
});

test("unpacked, each node is what the sub-graph was; a copy is what it is", () => {
  const past = after(refined, setMode(["7"], BYPASSED));
  const out = after(past, unpackSubgraph("7"));
  expect(modes(out)).toEqual({ "7:4": BYPASSED, "7:5": BYPASSED });
  expect(out.nodes["6"]?.links["latent"]).toEqual({ source: "7:5", output: 0 });
  const copied = after(past, paste(fragmentOf(past, ["7"]), [0, 300], true));
  expect(modeOf(copied, "8")).toBe(BYPASSED);
  expect(portsOf(copied, "8").inputs.map(({ name, ends }) => [name, ends])).toEqual([["latent", [{ node: "8:4", socket: "latent" }]]]);
  expect(saidVia(copied, "8", "latent")).toEqual({ source: "3", output: 0 });
  expect(modes(after(copied, setMode(["8"], RUN)))).toEqual(modes(past));
});

test("what would wait for itself past a bypassed sub-graph is fed by nothing until that runs", () => {
  const round = after(
    BUILT,
    addNode("Refine", [900, 0]),
    addNode("Refine", [1200, 0]),
    addNode("Refine", [1500, 0]),
    connect({ source: "4", output: 0 }, "5", "latent"),
    connect({ source: "5", output: 0 }, "6", "latent"),
    packNodes(["4", "6"], "Around"),
  );
  const past = after(round, setMode(["7"], BYPASSED));
  expect(past.nodes["5"]?.links).toEqual({});
  expect(after(past, setMode(["7"], MUTED)).nodes["5"]).toEqual(round.nodes["5"]);
  expect(after(past, setMode(["7"], RUN)).nodes).toEqual(round.nodes);
  // Another source for the sub-graph, and there is no circle.
  const fed = after(past, connect({ source: "3", output: 0 }, "7:4", "latent"), wireUp({ source: "3", output: 0 }, "7", "latent"));
  expect(fed.nodes["5"]?.links["latent"]).toEqual({ source: "3", output: 0 });
});

test("an output of a bypassed sub-graph takes inside only what is of its type", () => {
  const past = after(refined, setMode(["7"], BYPASSED));
  expect(after(past, wireUp({ source: "7:5", output: 1 }, `7:${OUTSIDE}`, "0"))).toBe(past);
});

test("a node copied out of a muted sub-graph is what it is by itself, and stays so in another", () => {
  const muted = after(refined, setMode(["7:5"], BYPASSED), setMode(["7"], MUTED));
  const out = after(muted, paste(fragmentOf(muted, ["7:4"]), [0, 300]), paste(fragmentOf(muted, ["7:5"]), [0, 300]));
  expect([out.nodes["8"]?.mode, out.nodes["9"]?.mode, kept(out, "9")]).toEqual([RUN, BYPASSED, undefined]);
  const own = after(out, setMode(["8"], MUTED));
  const into = after(own, paste(fragmentOf(own, ["8"]), [0, 0], false, "7"));
  expect([into.nodes["7:10"]?.mode, kept(into, "7:10")]).toEqual([MUTED, MUTED]);
  expect(after(into, setMode(["7"], RUN)).nodes["7:10"]?.mode).toBe(MUTED);
});

test("what was packed within a sub-graph with declared outputs is led past as well", () => {
  const packed = after(refined, declarePorts("7"), packNodes(["7:5"], "Last"), setMode(["7:8"], BYPASSED));
  expect(packed.nodes["6"]?.links["latent"]).toEqual({ source: "7:4", output: 0 });
  expect(after(packed, setMode(["7:8"], RUN)).nodes["6"]?.links["latent"]).toEqual({ source: "7:8:5", output: 0 });
});

test("a mode that holds no longer, because a node runs, comes to nothing", () => {
  const muted = after(refined, setMode(["7"], MUTED));
  const edited: Workflow = { ...muted, nodes: { ...muted.nodes, "7:4": { ...(muted.nodes["7:4"] as Workflow["nodes"][string]), mode: RUN } } };
  expect(modeOf(edited, "7")).toBe(RUN);
  const moved = after(edited, all(setMode(["6"], MUTED)));
  expect(modes(moved)).toEqual({ "7:5": MUTED, "6": MUTED });
});
