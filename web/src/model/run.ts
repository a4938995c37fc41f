/** What is known of a run, as the server's messages tell it. One message changes the record of one node. */

import { isObject, type Json, type JsonObject } from "./json";
import type { Workflow } from "./workflow";

export interface Problem {
  readonly code: string;
  readonly message: string;
  readonly severity: "error" | "warning";
  readonly node?: string;
  readonly input?: string;
  readonly found?: string;
  readonly allowed?: string;
  readonly hint?: string;
}

export interface ImageFile {
  readonly filename: string;
  readonly subfolder: string;
  readonly type: string;
}

export type NodeState = "waiting" | "running" | "cached" | "done" | "failed" | "skipped";

export interface NodeRun {
  readonly state: NodeState;
  readonly value: number;
  readonly max: number;
  /** Milliseconds since the epoch. */
  readonly began?: number;
  readonly ended?: number;
  readonly images?: readonly ImageFile[];
}

export type RunStatus = "idle" | "sending" | "queued" | "running" | "success" | "failed" | "cancelled";

export interface Run {
  readonly job: string | null;
  readonly status: RunStatus;
  readonly nodes: { readonly [id: string]: NodeRun };
  readonly problems: readonly Problem[];
  /** Jobs that the server has left, of everybody. */
  readonly remaining: number;
}

export const IDLE: Run = { job: null, status: "idle", nodes: {}, problems: [], remaining: 0 };

export const isActive = (run: Run): boolean =>
  run.status === "sending" || run.status === "queued" || run.status === "running";

/** A message of the websocket. */
export interface Message {
  readonly type: string;
  readonly data: JsonObject;
}

/** The run after a message; the same run where it says nothing of this job. `now` is in milliseconds. */
export function received(run: Run, message: Message, now: number): Run {
  const { type, data } = message;
  if (type === "status") {
    const info = isObject(data["status"]) ? data["status"]["exec_info"] : undefined;
    const remaining = isObject(info) ? number(info["queue_remaining"]) : run.remaining;
    return remaining === run.remaining ? run : { ...run, remaining };
  }
  if (run.job === null || data["prompt_id"] !== run.job) return run;
  switch (type) {
    case "execution_start":
      return { ...run, status: "running" };
    case "execution_cached": {
      const nodes = { ...run.nodes };
      for (const id of list(data["nodes"])) nodes[String(id)] = { ...nodes[String(id)], state: "cached", value: 1, max: 1 };
      return { ...run, nodes };
    }
    case "progress_state":
      return { ...run, status: "running", nodes: withStates(run.nodes, data["nodes"], now) };
    case "executed": {
      const id = String(data["display_node"] ?? data["node"]);
      const images = imagesOf(data["output"]);
      const known = run.nodes[id] ?? { state: "done", value: 1, max: 1 };
      return { ...run, nodes: { ...run.nodes, [id]: { ...known, images } } };
    }
    case "execution_success":
      return ended(run, "success");
    case "execution_interrupted":
      return ended(run, "cancelled");
    case "execution_error": {
      const problem = isObject(data["problem"]) ? readProblem(data["problem"]) : null;
      const node = typeof data["node_id"] === "string" && data["node_id"] ? data["node_id"] : undefined;
      const found: Problem = problem ?? {
        code: String(data["exception_type"]),
        message: String(data["exception_message"]),
        severity: "error",
      };
      return { ...ended(run, "failed"), problems: [{ ...found, ...(node !== undefined && { node }) }] };
    }
    default:
      return run;
  }
}

/**
 * The run with all that a cached node was made of counted as cached too: the server names only those results that it looked
 * up, and nothing before them was needed.
 */
export function withHeld(run: Run, workflow: Workflow): Run {
  const nodes = { ...run.nodes };
  const waiting = Object.keys(nodes).filter((id) => nodes[id]?.state === "cached");
  for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
    for (const { source } of Object.values(workflow.nodes[id]?.links ?? {})) {
      if (nodes[source]) continue;
      nodes[source] = { state: "cached", value: 1, max: 1 };
      waiting.push(source);
    }
  }
  return { ...run, nodes };
}

/** Whether a problem may still be there after a change: what it speaks of is as it was. */
export function standing(problem: Problem, before: Workflow, now: Workflow): boolean {
  if (problem.node === undefined) return false;
  const [old, node] = [before.nodes[problem.node], now.nodes[problem.node]];
  if (old === node) return true;
  if (!old || !node) return false;
  const input = problem.input;
  if (node.type !== old.type || node.mode !== old.mode) return false;
  if (input === undefined) return node.values === old.values && node.links === old.links;
  return node.values[input] === old.values[input] && node.links[input] === old.links[input];
}

function withStates(nodes: Run["nodes"], told: Json | undefined, now: number): Run["nodes"] {
  if (!isObject(told)) return nodes;
  const found = { ...nodes };
  for (const item of Object.values(told)) {
    if (!isObject(item)) continue;
    const inner = item["node_id"] !== item["display_node_id"];
    const id = String(item["display_node_id"] ?? item["node_id"]);
    const old = found[id];
    // A node that was made during the run tells of progress in the node that made it, not of that one's end.
    if (inner && item["state"] === "finished") continue;
    const state = stateOf(String(item["state"]), old?.state);
    const value = number(item["value"]);
    const max = number(item["max"]);
    if (old && old.state === state && old.value === value && old.max === max) continue;
    const began = old?.began ?? (state === "cached" || state === "skipped" ? undefined : now);
    const over = state === "done" || state === "failed" ? (old?.ended ?? now) : undefined;
    found[id] = {
      ...old,
      state,
      value,
      max,
      ...(began !== undefined && { began }),
      ...(over !== undefined && { ended: over }),
    };
  }
  return found;
}

function stateOf(told: string, old: NodeState | undefined): NodeState {
  if (told === "error") return "failed";
  if (told === "skipped") return told;
  if (told === "finished") return old === "cached" ? "cached" : "done";
  return told === "running" ? "running" : "waiting";
}

function ended(run: Run, status: RunStatus): Run {
  const nodes: Record<string, NodeRun> = {};
  for (const [id, node] of Object.entries(run.nodes)) {
    if (node.state === "running") nodes[id] = { ...node, state: status === "success" ? "done" : "waiting" };
    else nodes[id] = node;
  }
  return { ...run, status, nodes };
}

/** The pictures of what a node showed. */
export function imagesOf(output: Json | undefined): ImageFile[] {
  const found: ImageFile[] = [];
  for (const item of isObject(output) ? list(output["images"]) : []) {
    if (isObject(item) && typeof item["filename"] === "string")
      found.push({
        filename: item["filename"],
        subfolder: typeof item["subfolder"] === "string" ? item["subfolder"] : "",
        type: typeof item["type"] === "string" ? item["type"] : "output",
      });
  }
  return found;
}

/** A problem as the server records it. */
export function readProblem(data: JsonObject): Problem {
  const text = (name: string) => (typeof data[name] === "string" ? { [name]: data[name] } : {});
  return {
    code: String(data["code"] ?? "problem"),
    message: String(data["message"] ?? ""),
    severity: data["severity"] === "warning" ? "warning" : "error",
    ...text("node"),
    ...text("input"),
    ...text("found"),
    ...text("allowed"),
    ...text("hint"),
  };
}

/** The problems of an answer that refuses a workflow, or lets only a part of it run. */
export function problemsOf(answer: Json): Problem[] {
  if (!isObject(answer)) return [];
  const found = list(answer["problems"]).filter(isObject).map(readProblem);
  const placed = found.filter((problem) => problem.node !== undefined);
  if (placed.length) return placed;
  for (const [node, item] of Object.entries(isObject(answer["node_errors"]) ? answer["node_errors"] : {})) {
    for (const error of isObject(item) ? list(item["errors"]) : []) {
      if (!isObject(error)) continue;
      const extra = isObject(error["extra_info"]) ? error["extra_info"] : {};
      found.push({
        ...readProblem({ ...error, code: error["type"] ?? "problem" }),
        node,
        ...(typeof extra["input_name"] === "string" && { input: extra["input_name"] }),
      });
    }
  }
  const error = answer["error"];
  if (!found.length && isObject(error)) found.push(readProblem({ ...error, code: error["type"] ?? "problem" }));
  return found;
}

function list(value: Json | undefined): readonly Json[] {
  return Array.isArray(value) ? (value as readonly Json[]) : [];
}

function number(value: Json | undefined): number {
  return typeof value === "number" ? value : 0;
}
