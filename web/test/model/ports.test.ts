/** What sub-graphs say they take and give. */

import { expect, test } from "vitest";
import { gatesOf } from "../../src/model/boundary";
import { addNode, addReroute, all, connect, cutWire, declarePorts, packNodes, removeItems, removePort, renamePort, wireUp } from "../../src/model/commands";
import { portsOf, portType } from "../../src/model/ports";
import { INSIDE, lead, OUTSIDE, saidVia, viaOf } from "../../src/model/wires";
import type { Workflow } from "../../src/model/workflow";
import { BUILT, TYPES } from "../types";

const shape = (workflow: Workflow, id: string) => {
  const { inputs, outputs } = portsOf(workflow, id);
  return [inputs, outputs].map((ports) => ports.map(({ name, index, ends }) => [name, index, ends.map(({ node, socket }) => `${node} ${socket}`).join()]));
};
const packed = packNodes(["2"], "Prompting")(BUILT, TYPES);
const said = declarePorts("4")(packed, TYPES);

test("what a sub-graph takes and gives is said once, and nothing that runs changes", () => {
  expect(said.nodes).toEqual(packed.nodes);
  expect(shape(said, "4")).toEqual([[["clip", 0, "4:2 clip"]], [["conditioning", 0, "3 positive"]]]);
  expect(declarePorts("4")(said, TYPES).extra).toEqual(said.extra);
  expect(viaOf(said, "4:2", "clip")).toEqual({ source: `4:${INSIDE}`, output: 0 });
  // Through every edge on the way, with reroutes that were packed too.
  const routed = all(addReroute("3", "positive", [500, 0]), packNodes(["4", "2"], "Inner"), packNodes(["5"], "Outer"))(BUILT, TYPES);
  const outer = Object.keys(routed.nodes).find((id) => id.endsWith(":2"))?.split(":")[0] as string;
  const deep = all(declarePorts(outer), declarePorts(`${outer}:5`))(routed, TYPES);
  expect(deep.nodes).toEqual(routed.nodes);
  expect(saidVia(deep, "3", "positive")).toEqual({ source: outer, output: 0 });
  expect(lead(deep, { source: outer, output: 0 })).toEqual({ source: `${outer}:5:2`, output: 0 });
  for (const id of [outer, `${outer}:5`]) expect(shape(deep, id).map((ports) => ports.length)).toEqual([1, 1]);
});

test("a port that nothing inside uses any longer stays, can be used again, renamed and removed", () => {
  const gone = removeItems(["4:2"])(said, TYPES);
  expect(shape(gone, "4")).toEqual([[["clip", 0, ""]], [["conditioning", 0, "3 positive"]]]);
  // What is said of links speaks of nothing that is gone: a new node may get its id.
  expect(gone.extra["canvas"]).toMatchObject({ via: { "4": { clip: ["1", 1] } }, subgraphs: [{ outputs: [{ name: "conditioning", type: "CONDITIONING" }] }] });
  expect(JSON.stringify(gone.extra)).not.toContain("4:2");
  expect(gatesOf(gone, "4").map(({ side, ends, port }) => [side, ends, port?.name])).toEqual([
    ["in", [], "clip"],
    ["out", [{ node: "3", socket: "positive" }], "conditioning"],
  ]);
  const used = all(
    addNode("Encode", [0, 0], "4:7"),
    wireUp({ source: `4:${INSIDE}`, output: 0 }, "4:7", "clip"),
    wireUp({ source: "4:7", output: 0 }, `4:${OUTSIDE}`, "0"),
  )(gone, TYPES);
  expect(used.nodes["4:7"]?.links["clip"]).toEqual({ source: "1", output: 1 });
  expect(used.nodes["3"]?.links["positive"]).toEqual({ source: "4:7", output: 0 });
  expect(shape(used, "4")).toEqual([[["clip", 0, "4:7 clip"]], [["conditioning", 0, "3 positive"]]]);
  const [input] = portsOf(gone, "4").inputs;
  const named = renamePort("4", "inputs", input as never, " words ")(gone, TYPES);
  expect([shape(named, "4")[0], saidVia(named, "4", "words"), saidVia(named, "4", "clip")]).toEqual([[["words", 0, ""]], { source: "1", output: 1 }, null]);
  expect(renamePort("4", "inputs", input as never, "  ")(gone, TYPES)).toBe(gone);
  const bare = all(removePort("4", "inputs", { index: 0, ends: [] }), removePort("4", "outputs", { index: 0, ends: [] }))(gone, TYPES);
  expect(shape(bare, "4")).toEqual([[], []]);
  expect(JSON.stringify(bare.extra)).not.toContain("clip");
});

test("a port that is removed takes its links with it, and those behind it move up", () => {
  const two = all(addNode("Loader", [0, 300], "5"), addNode("Encode", [300, 300], "4:6"), connect({ source: "5", output: 1 }, "4:6", "clip"), declarePorts("4"))(packed, TYPES);
  expect(shape(two, "4")[0]).toEqual([["clip", 0, "4:2 clip"], ["clip_2", 1, "4:6 clip"]]);
  const [first] = portsOf(two, "4").inputs;
  const left = removePort("4", "inputs", first as never)(two, TYPES);
  expect(shape(left, "4")[0]).toEqual([["clip_2", 0, "4:6 clip"]]);
  expect([left.nodes["4:2"]?.links, left.nodes["4:6"]?.links["clip"]]).toEqual([{}, { source: "5", output: 1 }]);
  expect(saidVia(left, "4:6", "clip")).toEqual({ source: `4:${INSIDE}`, output: 0 });
  const [output] = portsOf(two, "4").outputs;
  const cut = removePort("4", "outputs", output as never)(two, TYPES);
  expect(Object.keys(cut.nodes["3"]?.links ?? {})).toEqual(["model"]);
  expect(saidVia(cut, "3", "positive")).toBeNull();
  // One that only links make goes with them.
  const made = portsOf(packed, "4").inputs[0];
  expect(shape(removePort("4", "inputs", made as never)(packed, TYPES), "4")[0]).toEqual([]);
});

test("a port is named whether or not it was said before, never as another", () => {
  const [made] = portsOf(packed, "4").outputs;
  const named = renamePort("4", "outputs", made as never, "words")(packed, TYPES);
  expect(shape(named, "4")).toEqual([[["clip", 0, "4:2 clip"]], [["words", 0, "3 positive"]]]);
  expect(named.nodes).toEqual(packed.nodes);
  const two = all(addNode("Loader", [0, 300], "5"), addNode("Encode", [300, 300], "4:6"), connect({ source: "5", output: 1 }, "4:6", "clip"), declarePorts("4"))(packed, TYPES);
  const [first] = portsOf(two, "4").inputs;
  expect(renamePort("4", "inputs", first as never, "clip_2")(two, TYPES)).toBe(two);
});

test("a link from outside is cut at the port and made there anew, for all that it feeds", () => {
  const both = all(addNode("Encode", [300, 300], "4:6"), wireUp({ source: `4:${INSIDE}`, output: 0 }, "4:6", "clip"))(said, TYPES);
  const cut = cutWire("4", "clip")(both, TYPES);
  expect([cut.nodes["4:2"]?.links, cut.nodes["4:6"]?.links]).toEqual([{}, {}]);
  expect(shape(cut, "4")[0]).toEqual([["clip", 0, "4:2 clip,4:6 clip"]]);
  expect(wireUp({ source: "1", output: 1 }, "4", "clip")(cut, TYPES)).toEqual(both);
  // What does not fit, or would go round in a circle, is refused.
  expect(wireUp({ source: "1", output: 0 }, "4", "clip")(cut, TYPES)).toBe(cut);
  expect(portType(cut, { node: "4", socket: "clip" })).toBe("CLIP");
  const unused = removeItems(["4:2", "4:6"])(cut, TYPES);
  expect(wireUp({ source: "1", output: 0 }, "4", "clip")(unused, TYPES)).toBe(unused);
  expect(saidVia(wireUp({ source: "1", output: 1 }, "4", "clip")(unused, TYPES), "4", "clip")).toEqual({ source: "1", output: 1 });
  // An output is cut inside.
  const dry = cutWire(`4:${OUTSIDE}`, "0")(both, TYPES);
  expect(dry.nodes["3"]?.links["positive"]).toBeUndefined();
  expect(wireUp({ source: "4:6", output: 0 }, `4:${OUTSIDE}`, "0")(dry, TYPES).nodes["3"]?.links["positive"]).toEqual({ source: "4:6", output: 0 });
});
