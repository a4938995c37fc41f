import fc from "fast-check";
import { expect, test } from "vitest";
import type { Json } from "../../src/model/json";
import { freeName, markOf } from "../../src/model/mark";

const json = fc.jsonValue().map((value) => value as Json);

test("a document has one mark, however its fields are ordered, and another one has another", () => {
  expect(markOf({ a: 1, b: { c: 2n ** 60n, d: [1, 2] } })).toBe(markOf({ b: { d: [1, 2], c: 2n ** 60n }, a: 1 }));
  expect(markOf({ a: [1, 2] })).not.toBe(markOf({ a: [2, 1] }));
  fc.assert(fc.property(json, json, (one, other) => (markOf({ one, other }) === markOf({ other, one })) && markOf([one, 1]) !== markOf([one, 2])));
});

test("what is kept beside another gets the next free number", () => {
  expect(freeName("Fox", ["Fox"])).toBe("Fox 2");
  expect(freeName("Fox 2", ["Fox", "Fox 2", "Fox 3"])).toBe("Fox 4");
});
