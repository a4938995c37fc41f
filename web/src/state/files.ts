/** Opening and saving: examples, the server's workflows, files and pictures. */

import { api, ServerError } from "../api/client";
import { readJsonFile } from "../api/reader";
import { setTitle } from "../model/commands";
import { needsConversion, NotAWorkflow, readWorkflow, writeWorkflow } from "../model/document";
import { parse, stringify, type Json } from "../model/json";
import { BrokenLink, hashOf, pack, packedIn, unpack } from "../model/link";
import { freeName } from "../model/mark";
import type { Problem } from "../model/run";
import { t } from "../strings";
import { edit, useDocument } from "./document";
import { runOf } from "./run";
import { knows, saveCarefully } from "./saved";
import { keepSoon, openInTab, useTabs } from "./tabs";
import { useUi } from "./ui";

export function openNew(): void {
  show({ nodegraph: 1, prompt: {} }, []);
}

/** What a newcomer finds on the canvas. */
export const FIRST_EXAMPLE = "text_to_image";

export const openExample = (name: string): Promise<void> => opening(name, async () => [await api.example(name), []]);

export const openSaved = (name: string): Promise<void> => opening(name, async () => {
    const found = await api.workflow(name);
    show(found, []);
    knows(useTabs.getState().active, name, found);
    keepSoon();
    return null;
  });

/** A .json of any format, or a picture that carries a workflow. */
export const openFile = (file: File): Promise<void> =>
  opening(file.name, async () => {
    if (file.type.startsWith("image/")) {
      const found = await api.convert(file);
      return [found.workflow, found.problems];
    }
    const data = await readJsonFile(file);
    if (!needsConversion(data)) return [data, []];
    const found = await api.convert(file);
    return [found.workflow, found.problems];
  });

async function readText(text: string): Promise<[Json, readonly Problem[]]> {
  const data = parse(text);
  if (!needsConversion(data)) return [data, []];
  const found = await api.convert(text);
  return [found.workflow, found.problems];
}

async function opening(name: string, read: () => Promise<[Json, readonly Problem[]] | null>): Promise<void> {
  try {
    const found = await read();
    if (found) show(...found);
  } catch (error) {
    let reason: string;
    if (error instanceof SyntaxError) reason = t("open.notJson");
    else if (error instanceof NotAWorkflow || error instanceof BrokenLink || error instanceof ServerError) reason = error.message;
    else throw error;
    useUi.getState().tell(t("open.failed", { name, reason }));
  }
}

function show(data: Json, problems: readonly Problem[]): void {
  openInTab(readWorkflow(data), { problems });
  if (problems.length) useUi.getState().show("problems");
}

/** The workflow of a job that ended, with what it made. */
export const openJob = (job: string): Promise<void> =>
  opening(t("history.job"), async () => {
    const found = await api.job(job);
    if (!found) throw new NotAWorkflow(t("history.gone"));
    openInTab(readWorkflow(found["document"] ?? null), runOf(found));
    return null;
  });

/** The workflow that the address carries, if it does; the address is then plain again. */
export async function openLink(): Promise<void> {
  const packed = packedIn(location.hash);
  if (packed === null) return;
  history.replaceState(null, "", location.pathname + location.search);
  await opening(t("link.name"), async () => readText(await unpack(packed)));
}

/** Copy an address that carries the workflow itself; where the browser does not let that be done, show it. */
export async function copyLink(): Promise<void> {
  const text = stringify(writeWorkflow(useDocument.getState().workflow));
  const link = `${location.origin}${location.pathname}${hashOf(await pack(text))}`;
  try {
    await navigator.clipboard.writeText(link);
    useUi.getState().tell(t(link.length > LONG ? "link.long" : "link.copied"));
  } catch {
    // No clipboard without a secure origin, or it was refused.
    useUi.setState({ link });
  }
}

/** Letters of an address that programs to which it is sent may cut off. */
const LONG = 8000;

/** Keep the document on the server under its title; where it changed there since it was opened here, ask first. */
export const save = (): Promise<void> => saving();

/** Replace what was found on the server, as long as it is still that. */
export const replaceSaved = (mark: string): Promise<void> => saving(mark);

async function saving(agreed?: string): Promise<void> {
  const { workflow } = useDocument.getState();
  const name = fileName();
  try {
    const mark = await saveCarefully(useTabs.getState().active, name, writeWorkflow(workflow), agreed);
    if (mark !== null) return useUi.setState({ conflict: { name, mark } });
    keepSoon();
    useUi.getState().tell(t("saved.done", { name }));
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    useUi.getState().tell(t("saved.failed", { reason: error.message }));
  }
}

/** Keep the document beside the one that has its name, under another one. */
export async function keepBoth(): Promise<void> {
  try {
    edit(setTitle(freeName(fileName(), await api.workflows())));
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    return useUi.getState().tell(t("saved.failed", { reason: error.message }));
  }
  await saving();
}

/** Hand the document to the browser as a file. */
export async function download(form: "document" | "api" | "ui"): Promise<void> {
  const { workflow } = useDocument.getState();
  let data: Json = writeWorkflow(workflow);
  try {
    if (form !== "document") data = (await api.convert(stringify(data), form)).workflow;
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    useUi.getState().tell(error.message);
    return;
  }
  const url = URL.createObjectURL(new Blob([stringify(data, 2), "\n"], { type: "application/json" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `${fileName()}${form === "document" ? "" : `.${form}`}.json`;
  link.click();
  URL.revokeObjectURL(url);
}

/** The title as a name of a file. */
export function fileName(): string {
  const { title } = useDocument.getState().workflow;
  const clean = title.replace(/[/\\:*?"<>|\p{Cc}]/gu, " ").replace(/^[. ]+|[. ]+$/g, "");
  return clean.slice(0, 80).trim() || "workflow";
}

