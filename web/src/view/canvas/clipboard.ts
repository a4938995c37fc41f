import { useReactFlow } from "@xyflow/react";
import { useEffect } from "react";
import { copy, pasteEvent } from "./actions";

const isField = (target: EventTarget | null): boolean =>
  target instanceof Element && target.closest("input, textarea, select, dialog, [contenteditable]") !== null;

/** Copy, cut and paste as the browser asks for them, so that no permission is needed. Text that is marked is copied as text. */
export function useClipboard(): void {
  const flow = useReactFlow();
  useEffect(() => {
    const copying = (cut: boolean) => (event: ClipboardEvent) => {
      if (!isField(event.target) && getSelection()?.isCollapsed !== false) copy(event, cut);
    };
    const pasting = (event: ClipboardEvent) => {
      if (!isField(event.target)) pasteEvent(flow, event);
    };
    const [onCopy, onCut] = [copying(false), copying(true)];
    document.addEventListener("copy", onCopy);
    document.addEventListener("cut", onCut);
    document.addEventListener("paste", pasting);
    return () => {
      document.removeEventListener("copy", onCopy);
      document.removeEventListener("cut", onCut);
      document.removeEventListener("paste", pasting);
    };
  }, [flow]);
}
