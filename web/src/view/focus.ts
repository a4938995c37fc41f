/** The focus is not lost: when what had it is removed or disabled, something near takes it. */

import { useEffect } from "react";

const STOPS = "a[href], button:not(:disabled, [tabindex='-1']), input:not(:disabled, [type=file]), select, textarea, [tabindex='0']";

/** An element above what has the focus, and which of its children leads there. */
interface Step {
  readonly parent: Element;
  readonly child: Element;
  readonly place: number;
}

/** What is shown: the graph or the form. */
export function focusMain(): void {
  document.querySelector<HTMLElement>(".work > main")?.focus({ preventScroll: true });
}

/** Back to what had the focus, or to what is shown where that is gone. */
export function giveBack(before: Element | null): void {
  if (before instanceof HTMLElement && before.isConnected && before !== document.body) before.focus({ preventScroll: true });
  else focusMain();
}

function wayTo(element: Element): Step[] {
  const way: Step[] = [];
  for (let child = element; child.parentElement; child = child.parentElement)
    way.push({ parent: child.parentElement, child, place: Array.prototype.indexOf.call(child.parentElement.children, child) });
  return way;
}

function firstStop(within: Element | undefined): HTMLElement | undefined {
  if (!within) return undefined;
  const all = [...(within.matches(STOPS) ? [within] : []), ...within.querySelectorAll(STOPS)] as HTMLElement[];
  return all.find((stop) => stop.tabIndex >= 0 && stop.checkVisibility());
}

/** What opened the part that is gone; on the canvas the node that it was in; else what took its place, or is before it. */
function heir(way: readonly Step[]): HTMLElement | undefined {
  for (const { parent, child, place } of way) {
    const opener = child.isConnected || !child.id ? null : document.querySelector<HTMLElement>(`[data-opens="${CSS.escape(child.id)}"]`);
    if (opener) return opener;
    if (!parent.isConnected) continue;
    if (parent.matches(".editor, body")) return undefined;
    if (parent.closest(".canvas")) return parent.closest<HTMLElement>(".react-flow__node") ?? undefined;
    const near = [place, place + 1, place - 1].map((index) => firstStop(parent.children[index])).find((stop) => stop !== undefined);
    const found = near ?? firstStop(parent);
    if (found) return found;
  }
  return undefined;
}

export function useKeptFocus(): void {
  useEffect(() => {
    let last: Element | null = null;
    let way: readonly Step[] = [];
    function note({ target }: FocusEvent): void {
      if (!(target instanceof Element)) return;
      last = target;
      way = wayTo(target);
    }
    function keep(): void {
      const { activeElement } = document;
      if (!last || (activeElement && activeElement !== document.body && activeElement !== last)) return;
      if (last.isConnected && !last.matches(":disabled")) return;
      last = null;
      const next = heir(way);
      if (next) next.focus({ preventScroll: true });
      else focusMain();
    }
    const observer = new MutationObserver(keep);
    observer.observe(document.body, { childList: true, subtree: true, attributeFilter: ["disabled"] });
    document.addEventListener("focusin", note);
    return () => {
      observer.disconnect();
      document.removeEventListener("focusin", note);
    };
  }, []);
}
