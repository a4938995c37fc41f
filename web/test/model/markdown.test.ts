import fc from "fast-check";
import { expect, test } from "vitest";
import { blocksOf, safeAddress, type Block, type Inline } from "../../src/model/markdown";

const p = (...inner: Inline[]): Block => ({ tag: "p", inner });
const wordsOf = (items: readonly Inline[]): string => items.map((item) => (typeof item === "string" ? item : wordsOf(item.inner))).join("");

test("headings, paragraphs, rules, quotes and code are told apart", () => {
  expect(blocksOf("# One\ntwo\nthree\n\n### Four ##\n---\n> said\n> twice\n```py\n# **no** heading\n```\nlast")).toEqual([
    { tag: "h1", inner: ["One"] },
    p("two\nthree"),
    { tag: "h3", inner: ["Four"] },
    { tag: "hr" },
    { tag: "blockquote", blocks: [p("said\ntwice")] },
    { tag: "pre", text: "# **no** heading" },
    p("last"),
  ]);
});

test("lists hold lists", () => {
  expect(blocksOf("- a\n  1. b\n  2. c\n- d\n\n3. e\n4. f")).toEqual([
    { tag: "ul", start: 1, items: [[p("a"), { tag: "ol", start: 1, items: [[p("b")], [p("c")]] }], [p("d")]] },
    { tag: "ol", start: 3, items: [[p("e")], [p("f")]] },
  ]);
});

test("words are bold, italic, struck, code and links", () => {
  expect(blocksOf("**a** *b* __c__ _d_ ~~e~~ `*f*` ***g***")).toEqual([
    p({ tag: "strong", inner: ["a"] }, " ", { tag: "em", inner: ["b"] }, " ", { tag: "strong", inner: ["c"] }, " ", { tag: "em", inner: ["d"] }, " ", { tag: "del", inner: ["e"] }, " ", { tag: "code", inner: ["*f*"] }, " ", {
      tag: "strong",
      inner: [{ tag: "em", inner: ["g"] }],
    }),
  ]);
  expect(blocksOf("[x *y*](https://a.b/c) and http://d.e/f.")).toEqual([
    p({ tag: "a", href: "https://a.b/c", inner: ["x *y*"] }, " and ", { tag: "a", href: "http://d.e/f", inner: ["http://d.e/f"] }, "."),
  ]);
});

test("what only looks like it stays as it was written", () => {
  for (const text of ["2 * 3 * 4", "snake_case_name", "a ** b", "\u2022 <b>x</b>", "[x](", "`", "**", "[a](javascript:alert(1))", "#tag", "-1 is less"])
    expect(blocksOf(text)).toEqual([p(text)]);
  expect(blocksOf("\\*a\\* \\\\")).toEqual([p("*a* \\")]);
});

test("no link runs anything", () => {
  for (const text of ["javascript:alert(1)", " JavaScript:x", "data:text/html,x", "vbscript:x", "//a.b", "/path", "file:///etc", "java\nscript:x", "https://a b"]) expect(safeAddress(text)).toBeNull();
  expect(safeAddress(" https://a.b?c=d#e ")).toBe("https://a.b?c=d#e");
  expect(safeAddress("mailto:a@b.c")).toBe("mailto:a@b.c");
});

test("any text is read, soon, and none of its letters becomes another", () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(..."ab *_`[](~)#->\n\\1.h:/"), maxLength: 200 }), (text) => {
      const seen: string[] = [];
      const visit = (blocks: readonly Block[]): void => {
        for (const block of blocks) {
          if ("inner" in block) seen.push(wordsOf(block.inner));
          else if (block.tag === "pre") seen.push(block.text);
          else if ("blocks" in block) visit(block.blocks);
          else if ("items" in block) block.items.forEach(visit);
        }
      };
      visit(blocksOf(text));
      const letters = (from: string) => from.replace(/[^ab]/g, "");
      // Marks go, and so may an address and what a fence says of its language.
      if (!/[`~]{3}|\]\(|https?:/.test(text)) expect(letters(seen.join(""))).toBe(letters(text));
    }),
  );
  for (const part of ["[", "**a ", "*", "_a ", "`", "[a](", "> ", "- ", "  - a\n", "https://", "~~", "* *"]) {
    const began = performance.now();
    blocksOf(part.repeat(200_000 / part.length));
    expect(performance.now() - began).toBeLessThan(2000);
  }
});
