/** Whether two documents are the same, told by a short text. */

import { stringify, type Json } from "./json";

/** The same text for the same document, in whatever order its fields came; of others, another one but for one in 2^53. */
export function markOf(document: Json): string {
  const text = stringify(sorted(document));
  let [one, other] = [0xdeadbeef, 0x41c6ce57];
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    one = Math.imul(one ^ code, 2654435761);
    other = Math.imul(other ^ code, 1597334677);
  }
  one = Math.imul(one ^ (one >>> 16), 2246822507) ^ Math.imul(other ^ (other >>> 13), 3266489909);
  other = Math.imul(other ^ (other >>> 16), 2246822507) ^ Math.imul(one ^ (one >>> 13), 3266489909);
  return `${text.length}-${(4294967296 * (2097151 & other) + (one >>> 0)).toString(36)}`;
}

function sorted(value: Json): Json {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return (value as readonly Json[]).map(sorted);
  return Object.fromEntries(
    Object.entries(value)
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .map(([name, item]) => [name, sorted(item)]),
  );
}

/** A name like one that is taken: with the first number from 2 on that leaves it free. */
export function freeName(name: string, taken: readonly string[]): string {
  const known = new Set(taken);
  const base = name.replace(/ \d{1,6}$/, "");
  let number = 2;
  while (known.has(`${base} ${number}`)) number++;
  return `${base} ${number}`;
}
