import { expect, test } from "vitest";
import { searchTypes } from "../../src/model/search";
import { assignable } from "../../src/model/types";
import { TYPES } from "../types";

const names = (...given: Parameters<typeof searchTypes> extends [unknown, ...infer Rest] ? Rest : never) =>
  searchTypes(TYPES, ...given).map((type) => type.name);

test("nodes are found by name, title, category and description, the name counting most", () => {
  expect(names("sam")[0]).toBe("Sample");
  expect(names("checkpoint")).toEqual(["Loader"]);
  expect(names("denoises once")).toEqual(["Refine"]);
  expect(names("nothing like it")).toEqual([]);
  expect(names("")).toHaveLength(TYPES.size);
});

test("what fits a socket comes first, and alone while nothing is typed", () => {
  expect(names("", { type: "LATENT", side: "source" })).toEqual(["Refine", "Sample", "Save"]);
  expect(names("", { type: "CLIP", side: "target" })).toEqual(["Loader"]);
  expect(names("s", { type: "LATENT", side: "source" }).slice(0, 3)).toEqual(expect.arrayContaining(["Sample", "Save"]));
  // Others begin with the letter; this one has it in its description.
  expect(names("s")[0]).not.toBe("Encode");
  expect(names("s", { type: "CLIP", side: "source" })[0]).toBe("Encode");
});

test("types fit as the engine has it", () => {
  const fits = ["LATENT LATENT", "INT FLOAT", "COMBO STRING", "STRING COMBO", "* LATENT", "LATENT *", "LATENT LATENT,IMAGE"];
  const unfits = ["LATENT IMAGE", "FLOAT INT", "INT STRING", "MASK LATENT,IMAGE"];
  for (const pair of fits) expect(assignable(...(pair.split(" ") as [string, string])), pair).toBe(true);
  for (const pair of unfits) expect(assignable(...(pair.split(" ") as [string, string])), pair).toBe(false);
});
