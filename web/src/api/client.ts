/** The server's routes, typed. Numbers keep every digit: bodies go through model/json. */

import { parse, stringify, isObject, type Json, type JsonObject } from "../model/json";
import { imagesOf, problemsOf, readProblem, type ImageFile, type Problem } from "../model/run";

/** An answer that says no, or none at all (`status` 0). */
export class ServerError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly answer: Json = null,
  ) {
    super(message);
  }

  get problems(): Problem[] {
    return problemsOf(this.answer);
  }
}

async function send(path: string, options: RequestInit = {}): Promise<Response> {
  try {
    return await fetch(path.startsWith("/api/") ? path : `/api${path}`, { cache: "no-cache", ...options });
  } catch {
    throw new ServerError(0, "The server cannot be reached.");
  }
}

async function json(path: string, options: RequestInit = {}): Promise<Json> {
  const response = await send(path, options);
  const text = await response.text();
  let data: Json = null;
  try {
    data = text ? parse(text) : null;
  } catch {
    throw new ServerError(response.status, "The server's answer is not JSON.");
  }
  if (response.ok) return data;
  const error = isObject(data) && isObject(data["error"]) ? data["error"] : {};
  throw new ServerError(response.status, String(error["message"] ?? response.statusText), data);
}

function posting(body: Json, method = "POST"): RequestInit {
  return { method, body: stringify(body), headers: { "Content-Type": "application/json" } };
}

const named = (name: string) => name.split("/").map(encodeURIComponent).join("%2F");

export interface Example {
  readonly name: string;
  readonly title: string;
}

/** A job as lists show it. Times are in milliseconds since the epoch. */
export interface JobItem {
  readonly id: string;
  readonly title: string;
  readonly status: string;
  /** Its place in the queue: lower runs first. */
  readonly priority: number;
  readonly created: number;
  readonly started: number | null;
  readonly ended: number | null;
  readonly picture: ImageFile | null;
  readonly problem: string | null;
}

function jobItem(data: JsonObject): JobItem {
  const time = (name: string) => (typeof data[name] === "number" ? data[name] : null);
  const problems = Array.isArray(data["problems"]) ? (data["problems"] as readonly Json[]) : [];
  const first = problems.find(isObject);
  return {
    id: String(data["id"]),
    title: String(data["title"] ?? ""),
    status: String(data["status"]),
    priority: time("priority") ?? 0,
    created: time("create_time") ?? 0,
    started: time("execution_start_time"),
    ended: time("execution_end_time"),
    picture: imagesOf({ images: [data["preview_output"] ?? null] })[0] ?? null,
    problem: first ? String(first["message"]) : null,
  };
}

export interface PlanRow {
  readonly node: string;
  /** `run`, `cached`, `lazy` or `unneeded`. */
  readonly state: string;
  readonly reason: string;
  /** The reason in words. */
  readonly text: string;
  readonly input?: string;
}

export interface Plan {
  readonly rows: readonly PlanRow[];
  readonly problems: readonly Problem[];
}

export interface Converted {
  readonly workflow: Json;
  readonly problems: readonly Problem[];
}

export const api = {
  objectInfo: (): Promise<Json> => json("/object_info"),

  /** Queue a document; warnings of outputs that are left out. Throws ServerError with `problems`. */
  async queue(document: JsonObject, client: string, job: string): Promise<readonly Problem[]> {
    return problemsOf(await json("/prompt", posting({ ...document, client_id: client, prompt_id: job })));
  },

  /** Stop a job, whether it waits or runs. */
  cancel: (job: string): Promise<Json> => json(`/jobs/${encodeURIComponent(job)}/cancel`, posting({})),

  /** A job with its document, outputs and problems; null where the server knows none of that id. */
  async job(job: string): Promise<JsonObject | null> {
    try {
      const found = await json(`/jobs/${encodeURIComponent(job)}`);
      return isObject(found) ? found : null;
    } catch (error) {
      if (error instanceof ServerError && error.status === 404) return null;
      throw error;
    }
  },

  /** Jobs in these states, as lists show them. */
  async jobs(states: string, order: "asc" | "desc", limit: number): Promise<readonly JobItem[]> {
    const found = await json(`/jobs?${new URLSearchParams({ status: states, sort_order: order, limit: String(limit) })}`);
    const listed = isObject(found) && Array.isArray(found["jobs"]) ? (found["jobs"] as readonly Json[]) : [];
    return listed.filter(isObject).map(jobItem);
  },

  /** Give a job that waits another place. */
  move: (job: string, place: { front: true } | { number: number }): Promise<Json> =>
    json(`/jobs/${encodeURIComponent(job)}/move`, posting(place)),

  async paused(): Promise<boolean> {
    const found = await json("/queue/pause");
    return isObject(found) && found["paused"] === true;
  },

  pause: (paused: boolean): Promise<Json> => json(paused ? "/queue/pause" : "/queue/resume", posting({})),

  clearQueue: (): Promise<Json> => json("/queue", posting({ clear: true })),

  forget: (...jobs: readonly string[]): Promise<Json> => json("/history", posting({ delete: jobs })),

  clearHistory: (): Promise<Json> => json("/history", posting({ clear: true })),

  /** What a run would do now, node by node. Throws ServerError with `problems`. */
  async plan(document: JsonObject): Promise<Plan> {
    const found = await json("/plan", posting(document));
    const data = isObject(found) ? found : {};
    const rows = Array.isArray(data["nodes"]) ? (data["nodes"] as readonly Json[]) : [];
    return {
      problems: problemsOf(data),
      rows: rows.filter(isObject).map((row) => ({
        node: String(row["node"]),
        state: String(row["state"]),
        reason: String(row["reason"]),
        text: String(row["text"]),
        ...(typeof row["input"] === "string" && { input: row["input"] }),
      })),
    };
  },

  async examples(): Promise<readonly Example[]> {
    const found = await json("/examples");
    const listed = isObject(found) && Array.isArray(found["examples"]) ? (found["examples"] as readonly Json[]) : [];
    return listed.filter(isObject).map((item) => ({ name: String(item["name"]), title: String(item["title"]) }));
  },

  example: (name: string): Promise<Json> => json(`/examples/${named(name)}`),

  async workflows(): Promise<readonly string[]> {
    const found = await json("/workflows");
    return isObject(found) && Array.isArray(found["workflows"]) ? (found["workflows"] as readonly Json[]).map(String) : [];
  },

  workflow: (name: string): Promise<Json> => json(`/workflows/${named(name)}`),

  save: (name: string, document: JsonObject): Promise<Json> => json(`/workflows/${named(name)}`, posting(document, "PUT")),

  /** A workflow of any format, or a picture that carries one, in another format. */
  async convert(body: string | Blob, to: "document" | "api" | "ui" = "document"): Promise<Converted> {
    const type = typeof body === "string" ? "application/json" : body.type;
    const found = await json(`/convert?to=${to}`, { method: "POST", body, headers: { "Content-Type": type } });
    const data = isObject(found) ? found : {};
    const problems = Array.isArray(data["problems"]) ? (data["problems"] as readonly Json[]) : [];
    return { workflow: data["workflow"] ?? null, problems: problems.filter(isObject).map(readProblem) };
  },

  /** Put a picture into the input folder; its name there. */
  async upload(file: File): Promise<string> {
    const form = new FormData();
    form.append("image", file);
    const found = await json("/upload/image", { method: "POST", body: form });
    return isObject(found) ? [found["subfolder"], found["name"]].filter(Boolean).join("/") : "";
  },

  /** The bytes of a picture. */
  async file(file: ImageFile): Promise<Blob> {
    const response = await send(this.view(file));
    if (!response.ok) throw new ServerError(response.status, response.statusText);
    return await response.blob();
  },

  /** The address of a picture; with `small`, packed for a list. */
  view(file: ImageFile, small = false): string {
    const { filename, subfolder, type } = file;
    return `/api/view?${new URLSearchParams({ filename, subfolder, type, ...(small && { preview: "webp;80" }) })}`;
  },
};
