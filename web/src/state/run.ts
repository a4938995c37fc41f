/** The run that is shown: sent, followed by the websocket, cancelled. */

import { create } from "zustand";
import { api, ServerError } from "../api/client";
import { freshId, listen } from "../api/socket";
import { advanceSeeds } from "../model/commands";
import { writeWorkflow } from "../model/document";
import { isObject } from "../model/json";
import { IDLE, imagesOf, isActive, received, withHeld, type Run } from "../model/run";
import { edit, useDocument } from "./document";
import { useUi } from "./ui";

interface RunState extends Run {
  /** Addresses of the newest preview by node. */
  readonly previews: { readonly [id: string]: string };
  readonly began: number;
  readonly ended: number;
}

export const useRun = create<RunState>()(() => ({ ...IDLE, previews: {}, began: 0, ended: 0 }));
const client = freshId();

/** Send the document as it stands and follow what becomes of it. */
export async function start(): Promise<void> {
  const run = useRun.getState();
  if (isActive(run)) return;
  const { workflow } = useDocument.getState();
  const job = freshId();
  dropPreviews();
  useRun.setState({ job, status: "sending", nodes: {}, problems: [], previews: {}, began: Date.now(), ended: 0 });
  try {
    // The id is made here: messages of the run may come before the answer does.
    const problems = await api.queue(writeWorkflow(workflow), client, job);
    const status = useRun.getState().status === "sending" ? "queued" : useRun.getState().status;
    useRun.setState({ status, problems });
    if (problems.length) useUi.getState().show("problems");
    edit(advanceSeeds(), { untracked: true });
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    const own = { code: "server", message: error.message, severity: "error" } as const;
    useRun.setState({ status: "failed", problems: error.problems.length ? error.problems : [own], ended: Date.now() });
    useUi.getState().show("problems");
  }
}

export async function cancel(): Promise<void> {
  const { job, status } = useRun.getState();
  if (!job || !isActive(useRun.getState())) return;
  try {
    await api.cancel(job);
    // A job that only waited is gone without a message.
    if (status === "queued") useRun.setState({ status: "cancelled", ended: Date.now() });
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    useUi.getState().tell(error.message);
  }
}

/** Follow the server's messages; the function that ends it. */
export function follow(): () => void {
  return listen(client, {
    message(message) {
      const run = useRun.getState();
      const next = received(run, message, Date.now());
      if (next === run) return;
      if (!isActive(run) || isActive(next)) {
        useRun.setState(next);
        return;
      }
      useRun.setState({ ...withHeld(next, useDocument.getState().workflow), ended: Date.now() });
      finished(next);
    },
    preview({ node, job, image }) {
      const { job: own, previews } = useRun.getState();
      if (job !== own) return;
      if (previews[node]) URL.revokeObjectURL(previews[node]);
      useRun.setState({ previews: { ...previews, [node]: URL.createObjectURL(image) } });
    },
    connected(up) {
      useUi.setState({ online: up });
      if (up) void catchUp();
    },
  });
}

function finished(run: Run): void {
  if (run.status === "failed") useUi.getState().show("problems");
  else if (Object.values(run.nodes).some((node) => node.images?.length)) useUi.getState().show("result");
}

/** What became of a job while there was no connection. */
async function catchUp(): Promise<void> {
  const { job, nodes } = useRun.getState();
  if (!job || !isActive(useRun.getState())) return;
  try {
    const item = await api.history(job);
    if (!item || useRun.getState().job !== job) return;
    const shown = { ...nodes };
    for (const [id, output] of Object.entries(isObject(item["outputs"]) ? item["outputs"] : {}))
      shown[id] = { ...(shown[id] ?? { value: 1, max: 1 }), state: "done", images: imagesOf(output) };
    const status = isObject(item["status"]) && item["status"]["status_str"] === "success" ? "success" : "failed";
    useRun.setState({ status, nodes: shown, ended: Date.now() });
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
  }
}

function dropPreviews(): void {
  for (const url of Object.values(useRun.getState().previews)) URL.revokeObjectURL(url);
}
