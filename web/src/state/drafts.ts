/**
 * What is open, kept in the browser's database while it is worked on, and found again after a reload or a crash.
 *
 * A window's tabs are its session. The session's id lives as long as the window, through reloads; a lock says that the
 * window is open. A new window takes over the newest session that no window holds: that of a browser which crashed or was
 * closed. It copies, so that two windows never write one record.
 */

import { freshId } from "../api/socket";
import type { JsonObject } from "../model/json";
import type { Marks } from "./saved";

export interface Draft {
  readonly id: string;
  readonly document: JsonObject;
  /** The job that its tab showed. */
  readonly job: string | null;
  /** Something was done to it; a mere example is not worth keeping. */
  readonly touched: boolean;
  /** What the server had when it was opened or saved. */
  readonly saved: Marks;
}

export interface Session {
  readonly tabs: readonly Draft[];
  readonly active: string;
}

interface SessionRecord {
  readonly id: string;
  readonly tabs: readonly { id: string; job: string | null; touched: boolean; saved?: Marks }[];
  readonly active: string;
  /** Milliseconds since the epoch. */
  readonly updated: number;
}

interface DocumentRecord {
  readonly key: string;
  readonly document: JsonObject;
}

const SESSION = "nodegraph.session";
/** Milliseconds after which a session that nobody took up again is thrown away. */
const KEPT = 60 * 86_400_000;
/** A reload may begin before the lock of the page that it replaces is free. */
const PATIENCE = 1000;

let database: IDBDatabase | null = null;
let session = "";
let failed: (error: unknown) => void = () => {};
const written = new Map<string, JsonObject>();

/** Open the database; what this window had open, or one that is gone. `onFail` is told what keeps drafts from being written. */
export async function recover(onFail: (error: unknown) => void): Promise<{ session: string; kept: Session | null }> {
  failed = onFail;
  const own = sessionStorage.getItem(SESSION);
  session = own !== null && (await claim(own)) ? own : freshId();
  if (session !== own) await claim(session);
  sessionStorage.setItem(SESSION, session);
  try {
    database = await connect();
    const found = own ?? (await orphan());
    const kept = found === null ? null : await load(found);
    if (found !== null && own === null) await remove(found);
    return { session, kept };
  } catch (error) {
    onFail(error);
    return { session, kept: null };
  }
}

/** Keep the tabs as they are now. Only documents that changed are written. */
export function keep(tabs: readonly Draft[], active: string): void {
  if (!database) return;
  try {
    const work = database.transaction(["sessions", "documents"], "readwrite", { durability: "relaxed" });
    work.onabort = () => failed(work.error);
    const record: SessionRecord = {
      id: session,
      tabs: tabs.map(({ id, job, touched, saved }) => ({ id, job, touched, saved })),
      active,
      updated: Date.now(),
    };
    work.objectStore("sessions").put(record);
    const documents = work.objectStore("documents");
    const open = new Set(tabs.map((tab) => tab.id));
    for (const { id, document } of tabs) {
      if (written.get(id) === document) continue;
      documents.put({ key: `${session} ${id}`, document } satisfies DocumentRecord);
      written.set(id, document);
    }
    for (const id of [...written.keys()].filter((known) => !open.has(known))) {
      documents.delete(`${session} ${id}`);
      written.delete(id);
    }
    // The page may be on its way out: nothing is left to wait for.
    work.commit();
  } catch (error) {
    failed(error);
  }
}

/** Hold a session's lock as long as the page is there; false where another window has it. */
async function claim(id: string): Promise<boolean> {
  // Locks are there on secure origins only. Elsewhere a duplicated window shares its original's records.
  if (!("locks" in navigator)) return true;
  return await new Promise<boolean>((resolve) => {
    const signal = AbortSignal.timeout(PATIENCE);
    const hold = () => {
      resolve(true);
      return new Promise<never>(() => {});
    };
    navigator.locks.request(lockOf(id), { signal }, hold).catch(() => resolve(false));
  });
}

const lockOf = (id: string): string => `${SESSION}.${id}`;

/** The newest session in which something was done and that no window holds. */
async function orphan(): Promise<string | null> {
  const all = (await read("sessions", (store) => store.getAll())) as readonly SessionRecord[];
  const held = new Set<string>();
  if ("locks" in navigator) for (const lock of (await navigator.locks.query()).held ?? []) held.add(lock.name ?? "");
  const gone = all.filter((item) => item.id !== session && !held.has(lockOf(item.id)));
  for (const item of gone) if (Date.now() - item.updated > KEPT) await remove(item.id);
  const worth = gone.filter((item) => item.tabs.some((tab) => tab.touched));
  return worth.sort((one, other) => other.updated - one.updated)[0]?.id ?? null;
}

async function load(id: string): Promise<Session | null> {
  const record = (await read("sessions", (store) => store.get(id))) as SessionRecord | undefined;
  if (!record?.tabs.some((tab) => tab.touched)) return null;
  const tabs: Draft[] = [];
  for (const tab of record.tabs) {
    const found = (await read("documents", (store) => store.get(`${id} ${tab.id}`))) as DocumentRecord | undefined;
    if (found) tabs.push({ saved: {}, ...tab, document: found.document });
  }
  return tabs.length ? { tabs, active: record.active } : null;
}

/** Forget a session: this window has its tabs now. */
async function remove(id: string): Promise<void> {
  const keys = (await read("documents", (store) => store.getAllKeys(IDBKeyRange.bound(`${id} `, `${id} \uffff`)))) as string[];
  const work = (database as IDBDatabase).transaction(["sessions", "documents"], "readwrite");
  work.objectStore("sessions").delete(id);
  for (const key of keys) work.objectStore("documents").delete(key);
  await new Promise<void>((resolve, reject) => {
    work.oncomplete = () => resolve();
    work.onabort = () => reject(work.error ?? new Error("The transaction was aborted."));
  });
}

function read<T>(name: string, ask: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  return answer(ask((database as IDBDatabase).transaction(name).objectStore(name)));
}

function connect(): Promise<IDBDatabase> {
  const asked = indexedDB.open("nodegraph", 1);
  asked.onupgradeneeded = () => {
    asked.result.createObjectStore("sessions", { keyPath: "id" });
    asked.result.createObjectStore("documents", { keyPath: "key" });
  };
  return answer(asked);
}

function answer<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("The browser's database does not answer."));
  });
}
