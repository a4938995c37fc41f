import fc from "fast-check";
import { expect, test } from "vitest";
import { parse, stringify, type Json } from "../../src/model/json";

const LARGEST = 18446744073709551615n;

test("the largest seed keeps every digit", () => {
  const text = '{"seed":18446744073709551615,"negative":-9223372036854775809,"small":7,"half":0.1234567890123456789}';
  const found = parse(text) as Record<string, Json>;
  expect(found).toEqual({ seed: LARGEST, negative: -9223372036854775809n, small: 7, half: 0.12345678901234568 });
  expect(parse(stringify(found))).toEqual(found);
  expect(stringify({ seed: LARGEST })).toBe('{"seed":18446744073709551615}');
});

test("digits in text stay text, whatever stands beside them", () => {
  const text = String.raw`{"a":"18446744073709551615","b":"\"18446744073709551615","c":"\u0001 18446744073709551615","d":1}`;
  expect(parse(text)).toEqual({
    a: "18446744073709551615",
    b: '"18446744073709551615',
    c: "\u0001 18446744073709551615",
    d: 1,
  });
});

test("a field named __proto__ changes nobody's prototype", () => {
  const found = parse('{"__proto__": {"spoiled": true}, "kept": 1}');
  expect(({ ...(found as object) } as Record<string, unknown>)["spoiled"]).toBeUndefined();
  expect(found).toEqual({ kept: 1 });
});

test.each(["", "{", "[1,]", "NaN", '{"a":18446744073709551615', "01", "{'a': 1}"])("what is no JSON is refused: %s", (text) => {
  expect(() => parse(text)).toThrow(SyntaxError);
});

const json: fc.Arbitrary<Json> = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constant(null),
    fc.boolean(),
    fc.integer(),
    fc.bigInt({ min: 2n ** 53n, max: LARGEST }),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => (Object.is(value, -0) ? 0 : value)),
    fc.string({ unit: "binary" }),
    fc.array(tie("value")),
    fc.dictionary(fc.string(), tie("value"), { noNullPrototype: true }).map((found) => {
      delete (found as Record<string, unknown>)["__proto__"];
      return found;
    }),
  ),
})).value as fc.Arbitrary<Json>;

/** Doubles beyond 2^53 are whole: they come back as the whole number that they are. */
const settled = (value: Json): Json => parse(stringify(value));

test("what is written is read as it was", () => {
  fc.assert(
    fc.property(json, fc.constantFrom(0, 2), (value, indent) => {
      const once = settled(value);
      expect(parse(stringify(once, indent))).toEqual(once);
    }),
  );
});
