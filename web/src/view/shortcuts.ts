/** Every keyboard shortcut: what the keys do, and the list that "?" shows. A new one is one entry. */

import { useReactFlow, type ReactFlowInstance } from "@xyflow/react";
import { useEffect } from "react";
import { BYPASSED, MUTED } from "../model/workflow";
import { redo, undo } from "../state/document";
import { save } from "../state/files";
import { cancel, start } from "../state/run";
import { cycleTab, newTab } from "../state/tabs";
import { openSearch, toggleApp, useUi } from "../state/ui";
import type { StringKey } from "../strings";
import * as actions from "./canvas/actions";
import { selectAll } from "./canvas/flow";

export interface Shortcut {
  /** `mod` is Ctrl, and Command on a Mac. Several are alternatives. */
  readonly keys: readonly string[];
  readonly label: StringKey;
  /** It works while a field has the focus, too. */
  readonly everywhere?: boolean;
  /** Without it the browser's own event does the work. */
  run?(flow: ReactFlowInstance): void;
}

export const SHORTCUTS: readonly Shortcut[] = [
  { keys: ["mod+enter"], label: "shortcuts.run", everywhere: true, run: () => void start() },
  { keys: ["mod+alt+enter"], label: "shortcuts.cancel", everywhere: true, run: () => void cancel() },
  { keys: ["mod+z"], label: "shortcuts.undo", run: undo },
  { keys: ["mod+shift+z", "mod+y"], label: "shortcuts.redo", run: redo },
  { keys: ["mod+s"], label: "shortcuts.save", everywhere: true, run: () => void save() },
  { keys: ["delete", "backspace"], label: "shortcuts.delete", run: actions.removeSelected },
  { keys: ["mod+a"], label: "shortcuts.selectAll", run: selectAll },
  { keys: ["a"], label: "shortcuts.add", run: openSearch },
  { keys: ["mod+c"], label: "shortcuts.copy" },
  { keys: ["mod+x"], label: "shortcuts.cut" },
  { keys: ["mod+v"], label: "shortcuts.paste" },
  { keys: ["mod+d"], label: "shortcuts.duplicate", run: actions.duplicate },
  { keys: ["f2"], label: "shortcuts.rename", run: actions.rename },
  { keys: ["f"], label: "shortcuts.fit", run: actions.fit },
  { keys: ["."], label: "shortcuts.fitSelected", run: actions.fitSelected },
  { keys: ["l"], label: "shortcuts.arrange", run: (flow) => void actions.arrange(flow) },
  { keys: ["g"], label: "shortcuts.group", run: (flow) => actions.group(flow) },
  { keys: ["n"], label: "shortcuts.note", run: (flow) => actions.addNoteAt(flow) },
  { keys: ["m"], label: "shortcuts.mute", run: () => actions.toggleMode(MUTED) },
  { keys: ["b"], label: "shortcuts.bypass", run: () => actions.toggleMode(BYPASSED) },
  { keys: ["c"], label: "shortcuts.collapse", run: actions.toggleCollapsed },
  { keys: ["t"], label: "shortcuts.newTab", run: newTab },
  { keys: ["]"], label: "shortcuts.nextTab", run: () => cycleTab(1) },
  { keys: ["["], label: "shortcuts.previousTab", run: () => cycleTab(-1) },
  { keys: ["q"], label: "shortcuts.queue", run: () => togglePanel("queue") },
  { keys: ["h"], label: "shortcuts.history", run: () => togglePanel("history") },
  { keys: ["p"], label: "shortcuts.plan", run: () => togglePanel("plan") },
  { keys: ["e"], label: "shortcuts.app", run: toggleApp },
  { keys: ["?"], label: "shortcuts.help", run: () => useUi.setState({ help: true }) },
];

/** What canvas/keyboard.ts does, for the list. */
export const GRAPH_KEYS: readonly Pick<Shortcut, "keys" | "label">[] = [
  { keys: ["←", "↑", "→", "↓"], label: "shortcuts.nodes" },
  { keys: ["shift+←", "shift+→"], label: "shortcuts.moveNodes" },
  { keys: ["enter"], label: "shortcuts.enter" },
  { keys: ["tab", "shift+tab"], label: "shortcuts.through" },
  { keys: ["delete"], label: "shortcuts.cutLink" },
  { keys: ["escape"], label: "shortcuts.out" },
];

function togglePanel(id: string): void {
  const { panel, show } = useUi.getState();
  show(panel === id ? null : id);
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
      if (!found?.run || (isField(event.target) && !found.everywhere)) return;
      event.preventDefault();
      found.run(flow);
    }
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [flow]);
}
