/**
 * What the server had when this page opened or saved a workflow. Another tab, or another person, may save the same one: it is then
 * replaced only by who was told so.
 */

import { api, ServerError } from "../api/client";
import { stringify, type Json, type JsonObject } from "../model/json";

const known = new Map<string, string>();
let warned: { name: string; found: string } | null = null;
const channel = new BroadcastChannel("nodegraph.saved");

/** Remember what the server has under a name. */
export function knows(name: string, document: Json): void {
  known.set(name, canonical(document));
}

/** Call with the name each time that another tab of this browser saves a workflow that this page knows. */
export function onSavedElsewhere(told: (name: string) => void): () => void {
  function hear(event: MessageEvent<unknown>): void {
    if (typeof event.data === "string" && known.has(event.data)) told(event.data);
  }
  channel.addEventListener("message", hear);
  return () => channel.removeEventListener("message", hear);
}

/** Keep a document on the server; false, and nothing is kept, where that would replace what this page has not seen, the first time. */
export async function saveCarefully(name: string, document: JsonObject): Promise<boolean> {
  const found = await current(name);
  const unseen = found !== null && found !== known.get(name) && found !== canonical(document);
  if (unseen && !(warned?.name === name && warned.found === found)) {
    warned = { name, found };
    return false;
  }
  warned = null;
  await api.save(name, document);
  knows(name, document);
  channel.postMessage(name);
  return true;
}

async function current(name: string): Promise<string | null> {
  try {
    return canonical(await api.workflow(name));
  } catch (error) {
    if (error instanceof ServerError && error.status === 404) return null;
    throw error;
  }
}

/** The same text for the same document, in whatever order its fields came. */
function canonical(document: Json): string {
  return stringify(sorted(document));
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
