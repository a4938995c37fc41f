import { expect, test } from "vitest";
import { connect, addNode, all } from "../../src/model/commands";
import type { JsonObject } from "../../src/model/json";
import { IDLE, problemsOf, received, standing, withHeld, type Run } from "../../src/model/run";
import { EMPTY, type GraphNode, type Workflow } from "../../src/model/workflow";
import { TYPES } from "../types";

const begun: Run = { ...IDLE, job: "j", status: "queued" };
const tell = (run: Run, type: string, data: JsonObject, now = 0) => received(run, { type, data: { prompt_id: "j", ...data } }, now);
const state = (id: string, word: string, value: number, max: number, top = id) => ({
  [id]: { node_id: id, display_node_id: top, state: word, value, max, prompt_id: "j" },
});

test("a run is followed from its start to its pictures", () => {
  let run = tell(begun, "execution_start", {});
  expect(run.status).toBe("running");
  run = tell(run, "execution_cached", { nodes: ["4"] });
  run = tell(run, "progress_state", { nodes: state("3", "running", 2, 20) }, 1000);
  expect(run.nodes["3"]).toEqual({ state: "running", value: 2, max: 20, began: 1000 });
  expect(run.nodes["4"]?.state).toBe("cached");
  run = tell(run, "progress_state", { nodes: { ...state("3", "finished", 20, 20), ...state("4", "finished", 1, 1) } }, 4000);
  expect(run.nodes["3"]).toEqual({ state: "done", value: 20, max: 20, began: 1000, ended: 4000 });
  expect(run.nodes["4"]?.state).toBe("cached");
  run = tell(run, "executed", { node: "9", display_node: "9", output: { images: [{ filename: "a.png", subfolder: "", type: "output" }] } });
  expect(run.nodes["9"]?.images).toEqual([{ filename: "a.png", subfolder: "", type: "output" }]);
  expect(tell(run, "execution_success", {}).status).toBe("success");
});

test("a message changes no node but those that it names, and none of another job", () => {
  const run = tell(begun, "progress_state", { nodes: { ...state("1", "running", 0, 1), ...state("2", "running", 0, 1) } });
  const next = tell(run, "progress_state", { nodes: { ...state("1", "running", 0, 1), ...state("2", "finished", 1, 1) } });
  expect(next.nodes["1"]).toBe(run.nodes["1"]);
  expect(next.nodes["2"]).not.toBe(run.nodes["2"]);
  expect(tell(run, "execution_success", { prompt_id: "another" })).toBe(run);
});

test("what runs inside a node is shown on that node", () => {
  const run = tell(begun, "progress_state", { nodes: state("5.0.a", "running", 3, 9, "5") });
  expect(run.nodes["5"]).toMatchObject({ state: "running", value: 3, max: 9 });
  expect(tell(run, "progress_state", { nodes: state("5.0.a", "finished", 9, 9, "5") }).nodes["5"]?.state).toBe("running");
});

test("a failure names its node, and what still ran is at rest", () => {
  const run = tell(begun, "progress_state", { nodes: { ...state("1", "error", 0, 1), ...state("2", "running", 0, 1) } });
  const data = { node_id: "1", problem: { code: "bad", message: "it is bad.", input: "a", hint: "Mend it." } };
  const next = tell(run, "execution_error", data);
  expect(next.status).toBe("failed");
  expect(next.problems).toEqual([{ code: "bad", message: "it is bad.", input: "a", hint: "Mend it.", severity: "error", node: "1" }]);
  expect(next.nodes["1"]?.state).toBe("failed");
  expect(next.nodes["2"]?.state).toBe("waiting");
});

test("what did not run because of something before it is skipped, and took no time", () => {
  const run = tell(begun, "progress_state", { nodes: { ...state("1", "error", 0, 1), ...state("2", "skipped", 0, 1) } }, 1000);
  expect(run.nodes["2"]).toEqual({ state: "skipped", value: 0, max: 1 });
  expect(tell(run, "execution_error", { node_id: "1" }).nodes["2"]?.state).toBe("skipped");
});

test("what a cached node was made of counts as cached", () => {
  const workflow = all(
    addNode("Loader", [0, 0]),
    addNode("Encode", [0, 0]),
    addNode("Loader", [0, 0]),
    connect({ source: "1", output: 1 }, "2", "clip"),
  )(EMPTY, TYPES);
  const run = withHeld(tell(begun, "execution_cached", { nodes: ["2"] }), workflow);
  expect(Object.keys(run.nodes)).toEqual(["1", "2"]);
  expect(run.nodes["1"]?.state).toBe("cached");
});

test("refusals give their problems: nodegraph's records first, else ComfyUI's", () => {
  const error = { type: "prompt_outputs_failed_validation", message: "Prompt outputs failed validation" };
  const comfy = { "3": { class_type: "A", errors: [{ type: "value_smaller_than_min", message: "too small", extra_info: { input_name: "steps" } }] } };
  expect(problemsOf({ error, node_errors: comfy })).toEqual([
    { code: "value_smaller_than_min", message: "too small", severity: "error", node: "3", input: "steps" },
  ]);
  expect(problemsOf({ error, node_errors: comfy, problems: [{ code: "x", message: "own", node: "3" }] })).toMatchObject([{ message: "own" }]);
  expect(problemsOf({ error, node_errors: {} })).toMatchObject([{ code: error.type, message: error.message }]);
  expect(problemsOf({ prompt_id: "j", number: 1, node_errors: {} })).toEqual([]);
});

test("a problem stands as long as what it speaks of is as it was", () => {
  const node: GraphNode = { id: "1", type: "T", pos: [0, 0], mode: 0, collapsed: false, values: { a: 1, b: 2 }, links: {}, meta: {} };
  const flow = (changed: Partial<GraphNode>): Workflow => ({ ...EMPTY, nodes: { "1": { ...node, ...changed } } });
  const before: Workflow = { ...EMPTY, nodes: { "1": node } };
  const problem = { code: "c", message: "m", severity: "error", node: "1", input: "a" } as const;
  expect(standing(problem, before, before)).toBe(true);
  expect(standing(problem, before, flow({ pos: [5, 5], values: { a: 1, b: 3 } }))).toBe(true);
  expect(standing(problem, before, flow({ values: { a: 5, b: 2 } }))).toBe(false);
  expect(standing(problem, before, flow({ links: { a: { source: "2", output: 0 } } }))).toBe(false);
  expect(standing(problem, before, flow({ mode: 2 }))).toBe(false);
  expect(standing(problem, before, EMPTY)).toBe(false);
  const { input, ...whole } = problem;
  expect(standing(whole, before, flow({ pos: [5, 5] }))).toBe(true);
  expect(standing(whole, before, flow({ values: { a: 1, b: 3 } }))).toBe(false);
});
