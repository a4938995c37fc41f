/**
 * Light Markdown, read into data: headings, paragraphs, lists, quotes, code, rules; bold, italics, struck, code, links. HTML is text
 * like any other, and a link leads only to the web or a mail address. Reading takes time in proportion to the text.
 */

export type Inline = string | { readonly tag: "strong" | "em" | "del" | "code"; readonly inner: readonly Inline[] } | { readonly tag: "a"; readonly href: string; readonly inner: readonly Inline[] };

export type Block =
  | { readonly tag: "h1" | "h2" | "h3" | "h4" | "p"; readonly inner: readonly Inline[] }
  | { readonly tag: "pre"; readonly text: string }
  | { readonly tag: "ul" | "ol"; readonly start: number; readonly items: readonly (readonly Block[])[] }
  | { readonly tag: "blockquote"; readonly blocks: readonly Block[] }
  | { readonly tag: "hr" };

const FENCE = /^ {0,3}(```+|~~~+)/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(.*)$/;
const RULE = /^ {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])[ \t]+(.*)$/;
const QUOTE = /^ {0,3}> ?(.*)$/;
const DEEPEST = 6;

export function blocksOf(text: string): Block[] {
  return read(text.replace(/\r\n?/g, "\n").split("\n"), 0);
}

function read(lines: readonly string[], depth: number): Block[] {
  const found: Block[] = [];
  let at = 0;
  const line = () => lines[at] ?? "";
  /** Lines from here on for as long as they are of a kind. */
  function take(kind: (line: string) => boolean): string[] {
    const from = at;
    while (at < lines.length && kind(line())) at++;
    return lines.slice(from, at);
  }
  while (at < lines.length) {
    const [fence, heading, item, quote] = [FENCE.exec(line()), HEADING.exec(line()), ITEM.exec(line()), QUOTE.exec(line())];
    if (!line().trim()) at++;
    else if (fence) {
      at++;
      const mark = fence[1] as string;
      found.push({ tag: "pre", text: take((one) => !one.trim().startsWith(mark)).join("\n") });
      at++;
    } else if (heading) {
      at++;
      const level = Math.min(4, (heading[1] as string).length) as 1 | 2 | 3 | 4;
      found.push({ tag: `h${level}`, inner: inlinesOf((heading[2] as string).replace(/[ \t]+#+[ \t]*$/, "")) });
    } else if (RULE.test(line())) {
      at++;
      found.push({ tag: "hr" });
    } else if (quote && depth < DEEPEST) {
      const inner = take((one) => QUOTE.test(one)).map((one) => (QUOTE.exec(one) as RegExpExecArray)[1] as string);
      found.push({ tag: "blockquote", blocks: read(inner, depth + 1) });
    } else if (item && depth < DEEPEST) found.push(list(item));
    else {
      const first = line();
      at++;
      found.push({ tag: "p", inner: inlinesOf([first, ...take((one) => one.trim() !== "" && !begins(one))].join("\n")) });
    }
  }
  return found;

  /** Items of one kind, with what is indented under them. */
  function list([, , mark]: RegExpExecArray): Block {
    const numbered = /\d/.test(mark as string);
    const items: Block[][] = [];
    for (let next = ITEM.exec(line()); next && /\d/.test(next[2] as string) === numbered && !RULE.test(line()); next = ITEM.exec(line())) {
      at++;
      const own = [next[3] as string, ...take((one) => /^(?: {2,}|\t)/.test(one) || (one.trim() !== "" && !begins(one)))];
      items.push(read(own.map((one, index) => (index ? one.replace(/^(?:\t| {1,4})/, "") : one)), depth + 1));
      // One empty line between items does not end a list.
      if (line().trim() === "" && ITEM.test(lines[at + 1] ?? "")) at++;
    }
    return { tag: numbered ? "ol" : "ul", start: numbered ? Number.parseInt(mark as string, 10) : 1, items };
  }
}

const begins = (line: string): boolean => [FENCE, HEADING, RULE, ITEM, QUOTE].some((kind) => kind.test(line));

const MARKS = { "**": "strong", __: "strong", "~~": "del", "*": "em", _: "em" } as const;
const ADDRESS = /https?:\/\/[^\s<>"'`]*[^\s<>"'`.,;:!?)\]}*_]/y;

/** What a link may lead to: nothing that runs in the page. */
export function safeAddress(text: string): string | null {
  const address = text.trim();
  return /^(?:https?:\/\/|mailto:)[^\s]+$/i.test(address) ? address : null;
}

function inlinesOf(text: string, depth = 0): Inline[] {
  const found: Inline[] = [];
  const missing = new Set<string>();
  let plain = "";
  /** Where a mark comes next; one that was looked for in vain is not looked for again. */
  function next(mark: string, from: number): number {
    const place = missing.has(mark) ? -1 : text.indexOf(mark, from);
    if (place < 0) missing.add(mark);
    return place;
  }
  function put(item: Inline, end: number): number {
    if (plain) found.push(plain);
    plain = "";
    found.push(item);
    return end;
  }
  const word = (place: number) => /[\p{L}\p{N}_]/u.test(text[place] ?? "");
  let at = 0;
  while (at < text.length) {
    const letter = text[at] as string;
    const marked = depth < DEEPEST ? emphasis(at) : null;
    if (letter === "\\" && /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "")) {
      plain += text[at + 1];
      at += 2;
      continue;
    }
    if (letter === "`") {
      const run = (/^`+/.exec(text.slice(at, at + 20)) as RegExpExecArray)[0];
      const end = next(run, at + run.length);
      if (end > 0) {
        at = put({ tag: "code", inner: [text.slice(at + run.length, end).trim()] }, end + run.length);
        continue;
      }
      plain += run;
      at += run.length;
      continue;
    }
    if (marked) {
      at = put({ tag: marked.tag, inner: inlinesOf(text.slice(marked.from, marked.to), depth + 1) }, marked.end);
      continue;
    }
    if (letter === "[" && depth < DEEPEST) {
      const middle = next("](", at + 1);
      const end = middle < 0 ? -1 : next(")", middle + 2);
      const href = end < 0 ? null : safeAddress(text.slice(middle + 2, end));
      if (href !== null) {
        at = put({ tag: "a", href, inner: inlinesOf(text.slice(at + 1, middle), DEEPEST) }, end + 1);
        continue;
      }
    }
    if (letter === "h" && depth < DEEPEST && !word(at - 1)) {
      ADDRESS.lastIndex = at;
      const address = ADDRESS.exec(text)?.[0];
      if (address) {
        at = put({ tag: "a", href: address, inner: [address] }, at + address.length);
        continue;
      }
    }
    plain += letter;
    at++;
  }
  if (plain) found.push(plain);
  return found;

  function emphasis(from: number): { tag: "strong" | "em" | "del"; from: number; to: number; end: number } | null {
    const two = text.slice(from, from + 2);
    const mark = two in MARKS ? two : (text[from] as string) in MARKS ? (text[from] as string) : null;
    if (mark === null || /\s/.test(text[from + mark.length] ?? " ") || (mark[0] === "_" && word(from - 1))) return null;
    let to = next(mark, from + mark.length + 1);
    // A single mark is not half of a double one; of three, the last two close the double one.
    for (let tries = 0; mark.length === 1 && to >= 0 && (text[to + 1] === mark || text[to - 1] === mark); tries++) {
      if (tries > 20) return null;
      to = next(mark, to + 1);
    }
    if (mark.length === 2 && to >= 0 && text[to + 2] === mark[0]) to++;
    if (to < 0 || /\s/.test(text[to - 1] as string) || (mark[0] === "_" && word(to + mark.length))) return null;
    return { tag: MARKS[mark as keyof typeof MARKS], from: from + mark.length, to, end: to + mark.length };
  }
}
