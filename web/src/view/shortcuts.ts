/** Every keyboard shortcut: what the keys do, and the list that "?" shows. A new one is one entry. */

import { useReactFlow, type ReactFlowInstance } from "@xyflow/react";
import { useEffect } from "react";
import { all, disconnect, removeNodes, setMode } from "../model/commands";
import { BYPASSED, MUTED, RUN, type Mode } from "../model/workflow";
import { edit, redo, undo, useDocument } from "../state/document";
import { save } from "../state/files";
import { cancel, start } from "../state/run";
import { cycleTab, newTab } from "../state/tabs";
import { useUi } from "../state/ui";
import type { StringKey } from "../strings";
import { selectAll, selection } from "./canvas/flow";

export interface Shortcut {
  /** `mod` is Ctrl, and Command on a Mac. Several are alternatives. */
  readonly keys: readonly string[];
  readonly label: StringKey;
  /** It works while a field has the focus, too. */
  readonly everywhere?: boolean;
  run(flow: ReactFlowInstance): void;
}

export const SHORTCUTS: readonly Shortcut[] = [
  { keys: ["mod+enter"], label: "shortcuts.run", everywhere: true, run: () => void start() },
  { keys: ["mod+alt+enter"], label: "shortcuts.cancel", everywhere: true, run: () => void cancel() },
  { keys: ["mod+z"], label: "shortcuts.undo", run: undo },
  { keys: ["mod+shift+z", "mod+y"], label: "shortcuts.redo", run: redo },
  { keys: ["mod+s"], label: "shortcuts.save", everywhere: true, run: () => void save() },
  { keys: ["delete", "backspace"], label: "shortcuts.delete", run: removeSelected },
  { keys: ["mod+a"], label: "shortcuts.selectAll", run: selectAll },
  { keys: ["a"], label: "shortcuts.add", run: openSearch },
  { keys: ["f"], label: "shortcuts.fit", run: (flow) => void flow.fitView({ duration: 200, maxZoom: 1 }) },
  { keys: ["m"], label: "shortcuts.mute", run: () => toggleMode(MUTED) },
  { keys: ["b"], label: "shortcuts.bypass", run: () => toggleMode(BYPASSED) },
  { keys: ["t"], label: "shortcuts.newTab", run: newTab },
  { keys: ["]"], label: "shortcuts.nextTab", run: () => cycleTab(1) },
  { keys: ["["], label: "shortcuts.previousTab", run: () => cycleTab(-1) },
  { keys: ["q"], label: "shortcuts.queue", run: () => togglePanel("queue") },
  { keys: ["h"], label: "shortcuts.history", run: () => togglePanel("history") },
  { keys: ["p"], label: "shortcuts.plan", run: () => togglePanel("plan") },
  { keys: ["?"], label: "shortcuts.help", run: () => useUi.setState({ help: true }) },
];

function removeSelected(): void {
  const { nodes, edges } = selection();
  if (nodes.length || edges.length)
    edit(all(...edges.map((edge) => disconnect(edge.target, edge.data.input)), removeNodes(nodes)));
}

function togglePanel(id: string): void {
  const { panel, show } = useUi.getState();
  show(panel === id ? null : id);
}

function toggleMode(mode: Mode): void {
  const { nodes } = selection();
  const { workflow } = useDocument.getState();
  const on = nodes.some((id) => workflow.nodes[id]?.mode !== mode);
  edit(setMode(nodes, on ? mode : RUN));
}

function openSearch(): void {
  useUi.setState({ search: { at: { x: innerWidth / 2 - 200, y: innerHeight / 5 } } });
}

/** The keys of an event as the table writes them. */
export function keysOf(event: KeyboardEvent): string {
  const key = event.key.toLowerCase();
  const parts = [(event.ctrlKey || event.metaKey) && "mod", event.altKey && "alt"];
  // Shift is in the character itself where it gives another one: "?" is "?", whatever keys make it.
  if (event.shiftKey && (key.length > 1 || key !== key.toUpperCase())) parts.push("shift");
  return [...parts.filter(Boolean), key].join("+");
}

const isField = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && target.closest("input, textarea, select, dialog, [contenteditable]") !== null;

export function useShortcuts(): void {
  const flow = useReactFlow();
  useEffect(() => {
    function press(event: KeyboardEvent): void {
      if (event.defaultPrevented || event.isComposing) return;
      const keys = keysOf(event);
      const found = SHORTCUTS.find((shortcut) => shortcut.keys.includes(keys));
      if (!found || (isField(event.target) && !found.everywhere)) return;
      event.preventDefault();
      found.run(flow);
    }
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [flow]);
}
