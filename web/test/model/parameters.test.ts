import { expect, test } from "vitest";
import { curlCall, pythonCall } from "../../src/model/calls";
import { declare, describe, rename, setParameter, undeclare } from "../../src/model/commands";
import { parameterName, parametersOf, valuesOf } from "../../src/model/parameters";
import { EMPTY, type GraphNode, type Workflow } from "../../src/model/workflow";
import { TYPES } from "../types";

const node = (id: string): GraphNode => ({ id, type: "Sample", pos: [0, 0], mode: 0, collapsed: false, values: { steps: 20 }, links: {}, meta: {} });
const flow: Workflow = { ...EMPTY, nodes: { "3": node("3"), "4": node("4") } };
const apply = (workflow: Workflow, ...commands: ReturnType<typeof declare>[]) => commands.reduce((found, command) => command(found, TYPES), workflow);

test("a parameter is declared, described, renamed in its place, and taken back", () => {
  const declared = apply(flow, declare("steps", "3", "steps"), declare("more", "4", "steps"), describe("steps", "how many"));
  expect(declared.parameters).toEqual({ steps: { node: "3", input: "steps", description: "how many" }, more: { node: "4", input: "steps" } });
  const renamed = apply(declared, rename("steps", "count"));
  expect(Object.keys(renamed.parameters)).toEqual(["count", "more"]);
  expect(apply(renamed, undeclare("count"), undeclare("more")).parameters).toEqual({});
  for (const wrong of [declare("steps", "4", "cfg"), declare("2nd", "4", "cfg"), declare("a b", "4", "cfg"), rename("steps", "more"), rename("steps", "ä")])
    expect(apply(declared, wrong)).toBe(declared);
});

test("a parameter sets every input that it names", () => {
  const both = { ...flow, parameters: { steps: [{ node: "3", input: "steps", description: "d" }, { node: 4, input: "steps" }] } };
  expect(parametersOf(both)).toEqual([{ name: "steps", description: "d", places: [{ node: "3", input: "steps" }, { node: "4", input: "steps" }] }]);
  const set = apply(both, setParameter("steps", 7));
  expect([set.nodes["3"]?.values["steps"], set.nodes["4"]?.values["steps"]]).toEqual([7, 7]);
  expect(valuesOf(set, TYPES)).toEqual({ steps: 7 });
  expect(apply(both, describe("steps", "e")).parameters["steps"]).toEqual([{ node: "3", input: "steps", description: "e" }, { node: "4", input: "steps" }]);
});

test("what is not well formed is no parameter, and a free name is a name", () => {
  const odd = { ...flow, parameters: { a: 1, b: { node: "3" }, c: [], d: { node: {}, input: "steps" }, steps: { node: "9", input: "steps" } } };
  expect(parametersOf(odd).map(({ name }) => name)).toEqual(["steps"]);
  expect(valuesOf(odd, TYPES)).toEqual({});
  expect(parameterName(odd, "steps", "My Sampler!")).toBe("my_sampler_steps");
  expect(parameterName(EMPTY, "ünï cödé", "")).toBe("n_c_d");
  expect(parameterName(EMPTY, "数", "9")).toBe("value");
});

test("calls quote what they carry", () => {
  const values = { prompt: "it's \"$HOME\"\n`x`", seed: 18446744073709551615n, on: true };
  expect(curlCall("http://h:1", "my flow", values)).toContain("'http://h:1/workflows/my%20flow/run'");
  expect(curlCall("http://h:1", "a", values)).toContain("it'\\''s");
  expect(curlCall("http://h:1", "a", values)).toContain("18446744073709551615");
  expect(pythonCall("http://h:1", "a", values)).toContain('    "on": True,');
});
