import { expect, test } from "vitest";
import { BrokenLink, hashOf, pack, packedIn, unpack } from "../../src/model/link";

test("a text comes out of a link as it went in", async () => {
  const text = JSON.stringify({ seed: "18446744073709551615", words: "狐 🦊 ä", many: "x".repeat(10_000) });
  const packed = await pack(text);
  expect(packed).toMatch(/^[\w-]+$/);
  expect(packed.length).toBeLessThan(400);
  expect(packedIn(hashOf(packed))).toBe(packed);
  expect(packedIn("#elsewhere")).toBeNull();
  expect(await unpack(packed)).toBe(text);
});

test.each(["", "!!!", "AAAA", "q1ZKzs9Jyc"])("%j is refused", async (packed) => {
  await expect(unpack(packed)).rejects.toThrow(BrokenLink);
});

test("what unpacks to more than a workflow may have is given up on the way", async () => {
  const packed = await pack("0".repeat(40 * 2 ** 20));
  await expect(unpack(packed)).rejects.toThrow("too large");
});
