/**
 * What the server had when a tab opened or saved a workflow. Another tab, or another person, may save the same one: it is then
 * replaced only by who was told so. What each tab knows is kept with its draft, and holds after a reload.
 */

import { api, ServerError } from "../api/client";
import type { Json, JsonObject } from "../model/json";
import { markOf } from "../model/mark";

export type Marks = Readonly<Record<string, string>>;

/** The marks of what tabs know, by tab and name. */
const known = new Map<string, Marks>();
const channel = new BroadcastChannel("nodegraph.saved");

/** Remember what the server has under a name. */
export function knows(tab: string, name: string, document: Json): void {
  known.set(tab, { ...known.get(tab), [name]: markOf(document) });
}

export const marksOf = (tab: string): Marks => known.get(tab) ?? {};

/** What a tab knew before the page was loaded. */
export function remember(tab: string, marks: Marks): void {
  known.set(tab, marks);
}

/** Call with the name each time that another tab of this browser saves a workflow that this page knows. */
export function onSavedElsewhere(told: (name: string) => void): () => void {
  function hear(event: MessageEvent<unknown>): void {
    const { data } = event;
    if (typeof data === "string" && [...known.values()].some((marks) => data in marks)) told(data);
  }
  channel.addEventListener("message", hear);
  return () => channel.removeEventListener("message", hear);
}

/**
 * Keep a document on the server; null once it is. Where that would replace what the tab has not seen, nothing is kept, and the mark of
 * that comes back: given as `agreed`, it says that just this may be replaced.
 */
export async function saveCarefully(tab: string, name: string, document: JsonObject, agreed?: string): Promise<string | null> {
  const found = await current(name);
  if (found !== null && found !== marksOf(tab)[name] && found !== markOf(document) && found !== agreed) return found;
  await api.save(name, document);
  // What the server keeps may be written otherwise than what it was given.
  knows(tab, name, await api.workflow(name));
  channel.postMessage(name);
  return null;
}

async function current(name: string): Promise<string | null> {
  try {
    return markOf(await api.workflow(name));
  } catch (error) {
    if (error instanceof ServerError && error.status === 404) return null;
    throw error;
  }
}
