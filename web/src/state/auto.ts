/** Run on change: a run begins by itself once what it would make has changed. */

import { stringify } from "../model/json";
import { isActive } from "../model/run";
import type { Workflow } from "../model/workflow";
import { useDocument } from "./document";
import { cancel, start, useRun } from "./run";
import { useUi } from "./ui";

/** Milliseconds without a change that end one: nobody wants a run for each letter. */
const PAUSE = 500;
let timer = 0;
let ran = "";

export function setAuto(auto: boolean): void {
  useUi.setState({ auto });
  clearTimeout(timer);
  if (auto) void run();
}

/** What of a document a run can tell apart: not places, titles or what is open. */
function essence({ nodes }: Workflow): string {
  return stringify(Object.values(nodes).map(({ id, type, mode, values, links }) => [id, type, mode, values, stringify(linked(links))]));
}

const linked = (links: Workflow["nodes"][string]["links"]) =>
  Object.fromEntries(Object.entries(links).map(([name, link]) => [name, [link.source, link.output]]));

async function run(): Promise<void> {
  if (essence(useDocument.getState().workflow) === ran) return;
  // What it would make is no longer wanted.
  if (isActive(useRun.getState())) await cancel();
  await start();
  // Seeds have moved on: that is no change of the person's.
  ran = essence(useDocument.getState().workflow);
}

useDocument.subscribe((now, before) => {
  if (now.workflow === before.workflow || !useUi.getState().auto) return;
  clearTimeout(timer);
  timer = window.setTimeout(() => void run(), PAUSE);
});
