/**
 * Runs: sent, followed by the websocket, cancelled. Each tab shows one run; further ones wait, and are shown in their tab
 * once they begin. The run of a tab that is not in front is parked, and followed all the same.
 */

import { create } from "zustand";
import { api, ServerError } from "../api/client";
import { freshId, listen } from "../api/socket";
import { advanceSeeds } from "../model/commands";
import { writeWorkflow } from "../model/document";
import { isObject, type Json, type JsonObject } from "../model/json";
import { IDLE, imagesOf, isActive, readProblem, received, standing, withHeld } from "../model/run";
import type { ImageFile, Message, NodeRun, Run, RunStatus } from "../model/run";
import type { Workflow } from "../model/workflow";
import { t } from "../strings";
import { edit, useDocument } from "./document";
import { perFrame } from "./frames";
import { useUi } from "./ui";

/** A run as a tab shows it. */
export interface Shown extends Run {
  /** Addresses of the newest preview by node. */
  readonly previews: { readonly [id: string]: string };
  readonly began: number;
  readonly ended: number;
}

interface Waiting {
  readonly job: string;
  readonly tab: string;
  /** What was sent: when it begins, the document may be another one. */
  readonly workflow: Workflow;
}

interface RunState extends Shown {
  /** The tab in front, whose run this is. */
  readonly tab: string;
  /** Own jobs that have not begun, in the order in which they were sent. */
  readonly waiting: readonly Waiting[];
  /** Pictures of the runs that ended here, the newest first: what a picture is compared with. */
  readonly recent: readonly ImageFile[];
  /** Counts what changed in the queue or the history; lists read themselves anew. */
  readonly changes: number;
}

const NONE: Shown = { ...IDLE, previews: {}, began: 0, ended: 0 };
const MOST_RECENT = 40;

export const useRun = create<RunState>()(() => ({ ...NONE, tab: "", waiting: [], recent: [], changes: 0 }));
const parked = new Map<string, Shown>();
let client = "";

/** Send the document as it stands; while a run is active, the new one waits for its turn. */
export async function start(): Promise<void> {
  const { workflow } = useDocument.getState();
  const { tab, waiting } = useRun.getState();
  const job = freshId();
  const next = isActive(useRun.getState());
  if (next) useRun.setState({ waiting: [...waiting, { job, tab, workflow }] });
  else show(tab, { ...NONE, job, status: "sending", began: Date.now() });
  try {
    // The id is made here: messages of the run may come before the answer does.
    const problems = await api.queue(writeWorkflow(workflow), client, job);
    change(job, (run) => ({ ...run, problems, status: run.status === "sending" ? "queued" : run.status }));
    if (problems.length) useUi.getState().show("problems");
    edit(advanceSeeds(), { untracked: true });
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    const own = { code: "server", message: error.message, severity: "error" } as const;
    const problems = error.problems.length ? error.problems : [own];
    useRun.setState(({ waiting: all }) => ({ waiting: all.filter((item) => item.job !== job) }));
    if (next) useRun.setState({ problems });
    else change(job, (run) => ({ ...run, status: "failed", problems, ended: Date.now() }));
    useUi.getState().show("problems");
  }
}

/** Stop the run that is shown, or the job that is named. */
export async function cancel(named?: string): Promise<void> {
  const run = useRun.getState();
  const job = named ?? run.job;
  if (!job || (named === undefined && !isActive(run))) return;
  try {
    await api.cancel(job);
    // A job that only waited is gone without a message.
    useRun.setState(({ waiting, changes }) => ({ waiting: waiting.filter((item) => item.job !== job), changes: changes + 1 }));
    change(job, (own) => (own.status === "queued" ? { ...own, status: "cancelled", ended: Date.now() } : own));
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    useUi.getState().tell(error.message);
  }
}

/** Bring the run of another tab to the front. */
export function showTab(tab: string): void {
  const run = useRun.getState();
  parked.set(run.tab, shownOf(run));
  const next = parked.get(tab) ?? NONE;
  parked.delete(tab);
  useRun.setState({ ...next, remaining: run.remaining, tab });
}

export function closeTab(tab: string): void {
  dropPreviews(parked.get(tab) ?? NONE);
  parked.delete(tab);
}

/** Show a run that ended, or none: the document in front was replaced. */
export function showRun(run: Partial<Shown>): void {
  show(useRun.getState().tab, { ...NONE, ...run });
}

/** The job of each tab, to be found again after a reload. */
export function jobOf(tab: string): string | null {
  const run = useRun.getState();
  return run.tab === tab ? run.job : (parked.get(tab)?.job ?? null);
}

/** Take up the job that a tab showed before the page was loaded. */
export function resume(tab: string, job: string): void {
  const run: Shown = { ...NONE, job, status: "queued", began: Date.now() };
  if (tab === useRun.getState().tab) show(tab, run);
  else parked.set(tab, run);
}

/** What a job left: its outputs on the nodes, and how it ended. */
export function runOf(job: JsonObject): Shown {
  const nodes: Record<string, NodeRun> = {};
  for (const [id, output] of Object.entries(isObject(job["outputs"]) ? job["outputs"] : {}))
    nodes[id] = { state: "done", value: 1, max: 1, images: imagesOf(output) };
  const problems = list(job["problems"]).filter(isObject).map(readProblem);
  return {
    ...NONE,
    job: String(job["id"]),
    status: STATUSES[String(job["status"])] ?? "failed",
    nodes,
    problems,
    began: Number(job["execution_start_time"] ?? job["create_time"] ?? 0),
    ended: Number(job["execution_end_time"] ?? 0),
  };
}

const STATUSES: Readonly<Record<string, RunStatus>> = {
  pending: "queued",
  in_progress: "running",
  completed: "success",
  failed: "failed",
  cancelled: "cancelled",
};

/** What is heard of a job: whether it begins with it, and what becomes of its run. */
interface Heard {
  readonly job: string;
  readonly begins: boolean;
  to(run: Shown): Shown;
}

/** One change of the store for each job, however much was heard of it: every change is shown to all nodes. */
function take(all: readonly Heard[]): void {
  for (let start = 0, next = 0; start < all.length; start = next) {
    const { job, begins } = all[start] as Heard;
    do next++;
    while (all[next]?.job === job && !all[next]?.begins);
    if (begins) begin(job);
    change(job, (run) => all.slice(start, next).reduce((found, { to }) => to(found), run));
  }
}

/** Follow the server's messages under this id; the function that ends it. */
export function follow(id: string): () => void {
  client = id;
  const { add, flush } = perFrame(take);
  const counts = perFrame<Message>((all) => {
    const run = useRun.getState();
    useRun.setState({ remaining: all.reduce<Run>((found, message) => received(found, message, 0), run).remaining, changes: run.changes + 1 });
  });
  return listen(client, {
    message(message) {
      const { type, data } = message;
      const job = typeof data["prompt_id"] === "string" ? data["prompt_id"] : null;
      if (type === "status") return counts.add(message);
      if (job === null) return;
      const now = Date.now();
      add({
        job,
        begins: type === "execution_start",
        to(run) {
          const told = received(run, message, now);
          if (told === run) return run;
          const next: Shown = { ...run, ...told };
          return isActive(run) && !isActive(next) ? end(next) : next;
        },
      });
    },
    preview({ node, job, image }) {
      add({
        job,
        begins: false,
        to(run) {
          if (run.previews[node]) URL.revokeObjectURL(run.previews[node]);
          return { ...run, previews: { ...run.previews, [node]: URL.createObjectURL(image) } };
        },
      });
    },
    connected(up) {
      flush();
      useUi.setState({ online: up });
      if (up) void catchUp();
    },
  });
}

/** A job that waited has begun: its tab shows it from now on. */
function begin(job: string): void {
  const item = useRun.getState().waiting.find((one) => one.job === job);
  if (!item) return;
  useRun.setState(({ waiting }) => ({ waiting: waiting.filter((one) => one !== item) }));
  show(item.tab, { ...NONE, job, status: "running", began: Date.now() });
}

function end(run: Shown): Shown {
  const front = run.job === useRun.getState().job;
  const found = front ? { ...run, ...withHeld(run, useDocument.getState().workflow) } : run;
  const images = Object.values(run.nodes).flatMap((node) => node.images ?? []);
  useRun.setState(({ recent, changes }) => ({ recent: [...images, ...recent].slice(0, MOST_RECENT), changes: changes + 1 }));
  if (front && run.status === "failed") useUi.getState().show("problems");
  else if (front && images.length && !useUi.getState().app && !KEEPING.has(useUi.getState().panel ?? "")) useUi.getState().show("result");
  return { ...found, ended: Date.now() };
}

/** Panels in which a run is watched: its end does not take them away. */
const KEEPING = new Set(["queue", "history", "plan"]);

/** What became of jobs while there was no connection. */
async function catchUp(): Promise<void> {
  const { waiting } = useRun.getState();
  const runs = [shownOf(useRun.getState()), ...parked.values()].filter(isActive);
  for (const job of [...runs.map((run) => run.job), ...waiting.map((item) => item.job)]) {
    if (job === null) continue;
    let found: JsonObject | null;
    try {
      found = await api.job(job);
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      return; // The connection is gone again; the next one asks anew.
    }
    const run: Shown | null = found && runOf(found);
    if (run && run.status !== "queued") begin(job);
    change(job, (shown) => {
      if (!isActive(shown) || shown.status === "sending") return shown;
      if (!run) {
        const lost = { code: "unknown_job", message: t("run.lost"), severity: "error" } as const;
        return { ...shown, status: "failed", problems: [lost], ended: Date.now() };
      }
      if (isActive(run)) return { ...shown, status: run.status };
      return end({ ...run, nodes: { ...shown.nodes, ...run.nodes }, remaining: shown.remaining });
    });
  }
  useRun.setState(({ changes }) => ({ changes: changes + 1 }));
}

// A problem is gone once what it speaks of was changed; the next run says whether that was enough.
useDocument.subscribe((now, before) => {
  const { problems, nodes } = useRun.getState();
  if (now.workflow === before.workflow || !problems.length) return;
  const left = problems.filter((problem) => standing(problem, before.workflow, now.workflow));
  if (left.length === problems.length) return;
  const troubled = new Set(left.map((problem) => problem.node));
  const kept = Object.entries(nodes).filter(([id, node]) => node.state !== "failed" || troubled.has(id));
  useRun.setState({ problems: left, nodes: Object.fromEntries(kept) });
});

/** Change the run of a job, whichever tab shows it. */
function change(job: string, to: (run: Shown) => Shown): void {
  const front = useRun.getState();
  if (front.job === job) {
    const before = shownOf(front);
    const next = to(before);
    if (next !== before) useRun.setState(next);
    return;
  }
  for (const [tab, run] of parked) if (run.job === job) parked.set(tab, to(run));
}

function show(tab: string, run: Shown): void {
  const front = useRun.getState();
  if (tab === front.tab) {
    dropPreviews(front);
    useRun.setState({ ...run, remaining: front.remaining });
  } else {
    dropPreviews(parked.get(tab) ?? NONE);
    parked.set(tab, run);
  }
}

function shownOf({ job, status, nodes, problems, remaining, previews, began, ended }: Shown): Shown {
  return { job, status, nodes, problems, remaining, previews, began, ended };
}

function dropPreviews(run: Shown): void {
  for (const url of Object.values(run.previews)) URL.revokeObjectURL(url);
}

function list(value: Json | undefined): readonly Json[] {
  return Array.isArray(value) ? (value as readonly Json[]) : [];
}
