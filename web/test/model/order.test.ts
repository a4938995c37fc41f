import { expect, test } from "vitest";
import { inOrder } from "../../src/model/order";
import { readWorkflow } from "../../src/model/document";

const node = (...sources: string[]) => ({
  class_type: "Any",
  inputs: Object.fromEntries(sources.map((source, index) => [`in${index}`, [source, 0]])),
});

test("a node comes after what feeds it", () => {
  const workflow = readWorkflow({ nodegraph: 1, prompt: { "1": node("3"), "2": node("1", "3"), "3": node() } });
  expect(inOrder(workflow).map(({ id }) => id)).toEqual(["3", "1", "2"]);
});

test("a circle and a link to nothing end", () => {
  const workflow = readWorkflow({ nodegraph: 1, prompt: { "1": node("2"), "2": node("1"), "3": node("9") } });
  expect(inOrder(workflow).map(({ id }) => id)).toEqual(["2", "1", "3"]);
});

test("a chain of 5,000 nodes does not overflow the stack", () => {
  const prompt = Object.fromEntries(Array.from({ length: 5000 }, (_, index) => [`n${index}`, node(`n${index + 1}`)]));
  expect(inOrder(readWorkflow({ nodegraph: 1, prompt }))).toHaveLength(5000);
});
