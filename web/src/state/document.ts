/** The document that is open, its node types and its history. The one way to change it is `edit`. */

import { create } from "zustand";
import { temporal } from "zundo";
import { settled, type Command } from "../model/commands";
import type { NodeTypes } from "../model/types";
import { EMPTY, type Workflow } from "../model/workflow";

interface DocumentState {
  readonly workflow: Workflow;
  readonly types: NodeTypes;
}

const MOST_UNDO = 500;
/** Milliseconds in which edits of one kind (typing, stepping a number) become one step of undo. */
const MERGE = 1000;

export const useDocument = create<DocumentState>()(
  temporal((): DocumentState => ({ workflow: EMPTY, types: new Map() }), {
    partialize: ({ workflow }) => ({ workflow }),
    equality: (one, other) => one.workflow === other.workflow,
    limit: MOST_UNDO,
  }),
);

const history = useDocument.temporal;
/** Whether a pointer is at work whose edits are one step, however long it takes. */
let held = false;
let last: { merge: string; at: number } | null = null;

/**
 * Change the document. Edits with the same `merge` in quick succession are one step of undo. `untracked` changes are part
 * of the step before (what a run does to seeds).
 */
export function edit(command: Command, options: { merge?: string; untracked?: boolean } = {}): void {
  const { workflow, types } = useDocument.getState();
  const next = settled(workflow, command(workflow, types));
  if (next === workflow) return;
  const now = Date.now();
  const merged = options.merge !== undefined && last?.merge === options.merge && (held || now - last.at < MERGE);
  last = options.merge !== undefined ? { merge: options.merge, at: now } : null;
  if (merged || options.untracked) {
    history.getState().pause();
    useDocument.setState({ workflow: next });
    history.getState().resume();
  } else {
    useDocument.setState({ workflow: next });
  }
}

/** Begin or end a gesture: what it edits of one kind is one step of undo. */
export function gesture(on: boolean): void {
  held = on;
  last = null;
}

/** Show another document; the history begins anew. */
export function open(workflow: Workflow): void {
  useDocument.setState({ workflow });
  history.getState().clear();
  last = null;
}

/** A document with what was done to it, put aside while another tab is in front. */
export interface Parked {
  readonly workflow: Workflow;
  readonly past: readonly { workflow: Workflow }[];
  readonly future: readonly { workflow: Workflow }[];
}

export function park(): Parked {
  const { pastStates, futureStates } = history.getState();
  return {
    workflow: useDocument.getState().workflow,
    past: pastStates.filter(whole),
    future: futureStates.filter(whole),
  };
}

export function unpark({ workflow, past, future }: Parked): void {
  open(workflow);
  history.setState({ pastStates: [...past], futureStates: [...future] });
}

const whole = (state: Partial<{ workflow: Workflow }>): state is { workflow: Workflow } => state.workflow !== undefined;

export function undo(): void {
  last = null;
  history.getState().undo();
}

export function redo(): void {
  last = null;
  history.getState().redo();
}

export function setTypes(types: NodeTypes): void {
  useDocument.setState({ types });
}
