/** Text of unknown origin read within bounds. It runs in a worker: what takes long must not hold the page. */

import { NotAWorkflow } from "./document";
import { parse, type Json } from "./json";

/** What the server takes at most. */
export const MAX_BYTES = 32 * 2 ** 20;
const MAX_VALUES = 500_000;
const MAX_DEPTH = 100;
const MAX_NODES = 5_000;
/** Letters of one text: more in a field would hold the page. */
const MAX_TEXT = 200_000;

const OUTSIDE = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\b(?:NaN|Infinity)\b/g;

/** The value of a text. Numbers that JSON has not, NaN and the infinities, are null. Throws SyntaxError and NotAWorkflow. */
export function readBounded(text: string): Json {
  const data = parseLoosely(text);
  check(data);
  return data;
}

function parseLoosely(text: string): Json {
  try {
    return parse(text);
  } catch (error) {
    if (error instanceof RangeError) throw new NotAWorkflow(`Lists in it are nested deeper than ${MAX_DEPTH}.`);
    if (!/NaN|Infinity/.test(text)) throw error;
    return parse(text.replace(OUTSIDE, (token) => (token.startsWith('"') ? token : "null")));
  }
}

/** Hold data to the bounds, without recursion. */
function check(data: Json): void {
  let level: Json[] = [data];
  let values = 0;
  for (let depth = 0; level.length; depth++) {
    if (depth > MAX_DEPTH) throw new NotAWorkflow(`Lists in it are nested deeper than ${MAX_DEPTH}.`);
    const next: Json[] = [];
    for (const value of level) {
      if (typeof value === "string" && value.length > MAX_TEXT)
        throw new NotAWorkflow(`A text in it has ${value.length} letters; ${MAX_TEXT} are allowed.`);
      if (typeof value !== "object" || value === null) continue;
      const items: readonly Json[] = Array.isArray(value) ? (value as readonly Json[]) : Object.values(value);
      values += items.length;
      if (values > MAX_VALUES) throw new NotAWorkflow(`It holds more than ${MAX_VALUES} values.`);
      for (const item of items) next.push(item);
    }
    level = next;
  }
  const prompt = typeof data === "object" && data !== null && !Array.isArray(data) ? (data as { [name: string]: Json }) : {};
  const nodes = prompt["nodes"] ?? prompt["prompt"] ?? prompt;
  const count = typeof nodes === "object" && nodes !== null ? Object.keys(nodes).length : 0;
  if (count > MAX_NODES) throw new NotAWorkflow(`It has ${count} nodes; ${MAX_NODES} can be shown.`);
}
