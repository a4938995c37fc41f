/** The server's routes, typed. Numbers keep every digit: bodies go through model/json. */

import { parse, stringify, isObject, type Json, type JsonObject } from "../model/json";
import { problemsOf, readProblem, type ImageFile, type Problem } from "../model/run";

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
    return await fetch(`/api${path}`, { cache: "no-cache", ...options });
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

  /** A job that has ended, in ComfyUI's shape; null while it has not. */
  async history(job: string): Promise<JsonObject | null> {
    const found = await json(`/history/${encodeURIComponent(job)}`);
    const item = isObject(found) ? found[job] : undefined;
    return isObject(item) ? item : null;
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

  /** The address of a picture. */
  view(file: ImageFile): string {
    return `/api/view?${new URLSearchParams({ filename: file.filename, subfolder: file.subfolder, type: file.type })}`;
  },
};
