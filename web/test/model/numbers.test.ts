import { expect, test } from "vitest";
import { clampWhole, parseNumber, parseWhole, randomWhole, stepNumber, whole } from "../../src/model/numbers";

test("whole numbers are read with every digit", () => {
  expect(parseWhole("18446744073709551615")).toBe(18446744073709551615n);
  expect(parseWhole(" +42 ")).toBe(42);
  expect(parseWhole("-9007199254740993")).toBe(-9007199254740993n);
  for (const text of ["", "1.5", "1e3", "0x10", "seven", "1 2"]) expect(parseWhole(text)).toBeNull();
});

test("numbers are read, and nothing else", () => {
  expect(parseNumber("1e-3")).toBe(0.001);
  for (const text of ["", "NaN", "Infinity", "1,5"]) expect(parseNumber(text)).toBeNull();
});

test("a value is moved into its range, at either end", () => {
  expect(clampWhole(18446744073709551616n, 0, 18446744073709551615n)).toBe(18446744073709551615n);
  expect(clampWhole(-1, 0, 10)).toBe(0);
  expect(clampWhole(5, 0, 10)).toBe(5);
});

test("steps leave no dust", () => {
  expect(stepNumber(0.1, 0.1, 2)).toBe(0.3);
  expect(stepNumber(8, 0.1, -1)).toBe(7.9);
});

test("random numbers reach beyond 2^53 and stay in range", () => {
  const many = Array.from({ length: 100 }, () => BigInt(randomWhole(18446744073709551615n)));
  expect(many.some((value) => value > 2n ** 53n)).toBe(true);
  expect(Array.from({ length: 100 }, () => randomWhole(3)).every((value) => value >= 0 && value <= 3)).toBe(true);
  expect(whole(2n ** 53n)).toBe(2n ** 53n);
});
