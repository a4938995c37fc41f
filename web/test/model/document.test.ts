import { readFileSync, readdirSync } from "node:fs";
import { expect, test } from "vitest";
import { NotAWorkflow, needsConversion, readWorkflow, writePrompt, writeWorkflow } from "../../src/model/document";
import { parse, stringify } from "../../src/model/json";

const SHIPPED = new URL("../../../workflows/", import.meta.url);
const files = readdirSync(SHIPPED).filter((name) => name.endsWith(".json"));

test("there are workflows that ship", () => expect(files.length).toBeGreaterThan(5));

test.each(files)("%s is written as it was read", (name) => {
  const data = parse(readFileSync(new URL(name, SHIPPED), "utf8"));
  expect(writeWorkflow(readWorkflow(data))).toEqual(data);
  expect(parse(stringify(writeWorkflow(readWorkflow(data)), 2))).toEqual(data);
});

test("a value under a link is kept where other tools keep it", () => {
  const data = {
    nodegraph: 1,
    prompt: {
      "1": {
        class_type: "Refine",
        inputs: { amount: ["2", 1] },
        _meta: { pos: [0, 0], ui: { control: { seed: "randomize" }, beneath: { amount: 0.25 } } },
      },
    },
  };
  const found = readWorkflow(data);
  expect(found.nodes["1"]?.values).toEqual({ amount: 0.25 });
  expect(writeWorkflow(found)).toEqual(data);
});

test("API JSON gets a layout in which no two nodes lie on each other", () => {
  const prompt = parse(readFileSync(new URL("text_to_image.json", SHIPPED), "utf8"));
  const api = writePrompt(readWorkflow(prompt));
  const found = readWorkflow(api);
  const places = Object.values(found.nodes).map((node) => node.pos.join());
  expect(new Set(places).size).toBe(places.length);
  expect(writePrompt(found)).toEqual(api);
});

test("a cycle and links to nowhere are laid out, too", () => {
  const found = readWorkflow({
    "1": { class_type: "A", inputs: { a: ["2", 0] } },
    "2": { class_type: "A", inputs: { a: ["1", 0], b: ["9", 3] } },
  });
  expect(Object.values(found.nodes).every((node) => Number.isFinite(node.pos[0]))).toBe(true);
});

test("what is not well formed is left out, and what is no workflow is refused", () => {
  expect(Object.keys(readWorkflow({ nodegraph: 1, prompt: { "1": { class_type: "A" }, "2": 7, "3": {} } }).nodes)).toEqual(["1"]);
  for (const data of [null, 7, "text", [], { a: 1 }, { prompt: { a: 1 } }]) expect(() => readWorkflow(data)).toThrow(NotAWorkflow);
  expect(readWorkflow({ nodegraph: 1, prompt: {} }).nodes).toEqual({});
});

test("ComfyUI's UI format is known", () => {
  expect(needsConversion({ nodes: [], links: [] })).toBe(true);
  expect(needsConversion({ nodegraph: 1, prompt: {} })).toBe(false);
});
