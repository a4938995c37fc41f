/** Several workflows open at once: one in front, the others parked with their history and their run. */

import { create } from "zustand";
import { freshId } from "../api/socket";
import { readWorkflow, writeWorkflow } from "../model/document";
import type { JsonObject } from "../model/json";
import { EMPTY, type Workflow } from "../model/workflow";
import { t } from "../strings";
import { open, park, unpark, useDocument, type Parked } from "./document";
import { keep, recover, type Draft, type Session } from "./drafts";
import { closeTab as dropRun, jobOf, resume, showRun, showTab, useRun, type Shown } from "./run";
import { marksOf, remember } from "./saved";
import { useUi } from "./ui";

export interface Tab {
  readonly id: string;
  /** As it was when it was last in front. */
  readonly title: string;
}

interface TabsState {
  readonly tabs: readonly Tab[];
  readonly active: string;
}

const FIRST = "1";

export const useTabs = create<TabsState>()(() => ({ tabs: [{ id: FIRST, title: "" }], active: FIRST }));
useRun.setState({ tab: FIRST });

const parked = new Map<string, Parked>();
/** Tabs in which something was done: nothing replaces them but the person. */
const touched = new Set<string>();
const documents = new WeakMap<Workflow, JsonObject>();
/** Milliseconds between a change and its keeping. */
const PAUSE = 250;
let timer = 0;
let opening = false;

/** Show a document: in a tab of its own, or in place of one in which nothing was done. */
export function openInTab(workflow: Workflow, run: Partial<Shown> = {}): void {
  if (touched.has(useTabs.getState().active)) addTab();
  replace(() => open(workflow));
  showRun(run);
  if (run.job) touched.add(useTabs.getState().active);
  retitle();
  bringIntoView();
  keepSoon();
}

function addTab(): void {
  const tab = { id: freshId(), title: "" };
  leave();
  useTabs.setState(({ tabs }) => ({ tabs: [...tabs, tab], active: tab.id }));
  showTab(tab.id);
  replace(() => open(EMPTY));
}

/** An empty workflow in a tab of its own. */
export function newTab(): void {
  addTab();
  bringIntoView();
  keepSoon();
}

export function switchTab(id: string): void {
  const next = parked.get(id);
  if (!next || id === useTabs.getState().active) return;
  leave();
  enter(id, next);
}

function enter(id: string, next: Parked): void {
  parked.delete(id);
  useTabs.setState({ active: id });
  showTab(id);
  replace(() => unpark(next));
  bringIntoView();
  keepSoon();
}

/** The tab `step` places on, round about. */
export function cycleTab(step: 1 | -1): void {
  const { tabs, active } = useTabs.getState();
  const place = tabs.findIndex((tab) => tab.id === active);
  const next = tabs[(place + step + tabs.length) % tabs.length];
  if (next) switchTab(next.id);
}

/** Close a tab; what was in it can be had back for as long as the page is there. */
export function closeTab(id: string): void {
  const { tabs, active } = useTabs.getState();
  const place = tabs.findIndex((tab) => tab.id === id);
  if (place < 0 || tabs.length < 2) return;
  if (id === active) {
    const next = tabs[place + 1] ?? tabs[place - 1];
    if (next) switchTab(next.id);
  }
  const gone = parked.get(id);
  const title = tabs[place]?.title || t("bar.untitled");
  useTabs.setState({ tabs: useTabs.getState().tabs.filter((tab) => tab.id !== id) });
  parked.delete(id);
  dropRun(id);
  const undo = () => {
    if (!gone) return;
    parked.set(id, gone);
    useTabs.setState((state) => ({ tabs: state.tabs.toSpliced(place, 0, { id, title: gone.workflow.title }) }));
    switchTab(id);
  };
  useUi.getState().tell(t("tabs.closed", { title }), { label: t("tabs.reopen"), run: undo });
  keepSoon();
}

/** Open what this window, or one that is gone, had open; whether there was anything. Gives the session's id. */
export async function restore(): Promise<{ session: string; restored: boolean }> {
  const { session, kept } = await recover((error) =>
    useUi.getState().tell(t("drafts.failed", { reason: error instanceof Error ? error.message : String(error) })),
  );
  if (kept) take(kept);
  useDocument.subscribe((now, before) => {
    if (now.workflow === before.workflow) return;
    if (!opening) touched.add(useTabs.getState().active);
    if (now.workflow.title !== before.workflow.title) retitle();
    keepSoon();
  });
  useRun.subscribe((now, before) => {
    if (now.job === before.job) return;
    if (now.job !== null) touched.add(now.tab);
    keepSoon();
  });
  // The last moment at which a page can be sure to do something, on phones too.
  addEventListener("visibilitychange", () => document.visibilityState === "hidden" && keepNow());
  addEventListener("pagehide", keepNow);
  return { session, restored: kept !== null };
}

function take({ tabs, active }: Session): void {
  const front = tabs.find((tab) => tab.id === active) ?? tabs[0];
  if (!front) return;
  useTabs.setState({
    tabs: tabs.map(({ id, document }) => ({ id, title: typeof document["title"] === "string" ? document["title"] : "" })),
    active: front.id,
  });
  useRun.setState({ tab: front.id });
  for (const tab of tabs) {
    const workflow = readWorkflow(tab.document);
    if (tab.touched) touched.add(tab.id);
    remember(tab.id, tab.saved);
    if (tab === front) replace(() => open(workflow));
    else parked.set(tab.id, { workflow, past: [], future: [] });
    if (tab.job !== null) resume(tab.id, tab.job);
  }
  bringIntoView();
}

/** Something that shows another document, and is no change of one. */
function replace(action: () => void): void {
  opening = true;
  action();
  opening = false;
}

function leave(): void {
  retitle();
  parked.set(useTabs.getState().active, park());
}

function retitle(): void {
  const { title } = useDocument.getState().workflow;
  useTabs.setState(({ tabs, active }) => ({ tabs: tabs.map((tab) => (tab.id === active ? { ...tab, title } : tab)) }));
}

const bringIntoView = () => useUi.setState(({ opened }) => ({ opened: opened + 1 }));

/** Keep what is open in the browser, in a moment. */
export function keepSoon(): void {
  clearTimeout(timer);
  timer = window.setTimeout(keepNow, PAUSE);
}

function keepNow(): void {
  clearTimeout(timer);
  const { tabs, active } = useTabs.getState();
  const drafts = tabs.flatMap(({ id }): Draft[] => {
    const workflow = id === active ? useDocument.getState().workflow : parked.get(id)?.workflow;
    return workflow ? [{ id, document: written(workflow), job: jobOf(id), touched: touched.has(id), saved: marksOf(id) }] : [];
  });
  keep(drafts, active);
}

/** The same document for the same workflow, so that only what changed is written. */
function written(workflow: Workflow): JsonObject {
  const known = documents.get(workflow);
  if (known) return known;
  const made = writeWorkflow(workflow);
  documents.set(workflow, made);
  return made;
}
