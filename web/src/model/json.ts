/**
 * JSON in which whole numbers keep every digit.
 *
 * A seed may be as large as 2^64 - 1, and `JSON.parse` rounds what is beyond 2^53. Whole numbers that a double cannot
 * hold come as `bigint`, and go out again as they came.
 */

export type Json = null | boolean | number | bigint | string | readonly Json[] | { readonly [name: string]: Json };
export type JsonObject = { readonly [name: string]: Json };

const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const WHOLE = /^-?\d{16,}$/;

/** The value of a JSON text. Throws SyntaxError. */
export function parse(text: string): Json {
  if (!/\d{16}|__proto__/.test(text)) return JSON.parse(text) as Json;
  let mark = "\u0001";
  while (text.includes(mark) || text.includes(escaped(mark))) mark += "\u0001";
  const marked = text.replace(TOKEN, (token) => {
    if (!WHOLE.test(token) || Number.isSafeInteger(Number(token))) return token;
    return `"${escaped(mark)}${token}"`;
  });
  return JSON.parse(marked, (name, value: unknown) => {
    // A field of this name would become the prototype of what it is copied into.
    if (name === "__proto__") return undefined;
    return typeof value === "string" && value.startsWith(mark) ? BigInt(value.slice(mark.length)) : value;
  }) as Json;
}

function escaped(mark: string): string {
  return "\\u0001".repeat(mark.length);
}

/** JSON text of a value; with `indent`, one field a line and short lists on one line. */
export function stringify(value: Json | undefined, indent = 0): string {
  return write(value ?? null, indent, "");
}

function write(value: Json, indent: number, before: string): string {
  if (typeof value === "bigint") return value.toString();
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const list = Array.isArray(value);
  const inner = before + " ".repeat(indent);
  const items = list
    ? (value as readonly Json[]).map((item) => write(item, indent, inner))
    : Object.entries(value)
        .filter(([, item]) => item !== undefined)
        .map(([name, item]) => `${JSON.stringify(name)}:${indent ? " " : ""}${write(item, indent, inner)}`);
  const [open, close] = list ? "[]" : "{}";
  if (!items.length) return `${open}${close}`;
  if (!indent) return `${open}${items.join(",")}${close}`;
  const flat = list && items.every((item) => item.length < 40 && !item.includes("\n")) && items.length <= 8;
  if (flat) return `${open}${items.join(", ")}${close}`;
  return `${open}\n${inner}${items.join(`,\n${inner}`)}\n${before}${close}`;
}

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
