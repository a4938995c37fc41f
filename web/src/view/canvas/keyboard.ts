/**
 * The graph by keyboard. The canvas is one stop of the Tab key: arrows go from node to node, Enter goes into a node, Tab and
 * arrows go through its sockets and widgets, Escape comes out. A socket is connected like a tap: Enter on one end, Enter on the other.
 */

import { useReactFlow, useStoreApi, type ReactFlowInstance } from "@xyflow/react";
import { useEffect, useMemo, type FocusEvent, type KeyboardEvent } from "react";
import { all, cutWire, moveItems } from "../../model/commands";
import type { Point } from "../../model/workflow";
import { edit } from "../../state/document";
import { useWriting } from "../../state/menu";
import { useUi } from "../../state/ui";
import { inputsAt, selectedBoxes, selectOnly, useFlow, type FlowNode } from "./flow";

const ARROWS: Readonly<Record<string, Point>> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const STEP = 20;
const STOPS = "input:not([type=file]), textarea, select, button:not(:disabled, [tabindex='-1']), .socket, .text[tabindex], a[href]";
const TABBABLE = "a[href], button:not(:disabled), input:not(:disabled), select, textarea, [tabindex='0']";
/** Frames in which a node that comes into view is drawn. */
const PATIENCE = 30;

let current: string | null = null;
/** Where it was, for when it is no more. */
let place: Point = [0, 0];
/** The focus moves because of the Tab key. */
let byTab = false;

const nodeOf = (target: EventTarget): HTMLElement | null =>
  target instanceof Element ? target.closest<HTMLElement>(".react-flow__node") : null;

const find = (id: string): HTMLElement | null => document.querySelector(`.react-flow__node[data-id="${CSS.escape(id)}"]`);

/** Where Tab and the arrows go within a node; while a link is drawn, only to the sockets that may end it. */
function stopsOf(node: HTMLElement): HTMLElement[] {
  const found = Array.from(node.querySelectorAll<HTMLElement>(STOPS));
  return useUi.getState().drawing ? found.filter((stop) => stop.dataset["fits"] === "true") : found;
}

function middle(node: FlowNode): Point {
  return [node.position.x + (node.measured?.width ?? 0) / 2, node.position.y + (node.measured?.height ?? 0) / 2];
}

/** The nearest node that way; what lies aside counts as farther. */
export function neighbour(nodes: readonly FlowNode[], from: FlowNode, [right, down]: Point): FlowNode | undefined {
  const [x, y] = middle(from);
  let best: FlowNode | undefined;
  let least = Infinity;
  for (const node of nodes) {
    const [otherX, otherY] = middle(node);
    const ahead = (otherX - x) * right + (otherY - y) * down;
    const aside = Math.abs((otherX - x) * down) + Math.abs((otherY - y) * right);
    if (node === from || ahead <= 0 || aside > 3 * ahead) continue;
    if (ahead + 2 * aside < least) {
      least = ahead + 2 * aside;
      best = node;
    }
  }
  return best;
}

function remember(node: FlowNode): void {
  current = node.id;
  place = middle(node);
}

/** Give a node the focus, in view. */
export function focusNode(flow: ReactFlowInstance, id: string): void {
  const node = useFlow.getState().nodes.find((item) => item.id === id);
  if (!node) return;
  remember(node);
  selectOnly(id);
  const [x, y] = place;
  const at = flow.flowToScreenPosition({ x, y });
  const canvas = document.querySelector(".canvas")?.getBoundingClientRect();
  const within = canvas && at.x > canvas.left && at.x < canvas.right && at.y > canvas.top && at.y < canvas.bottom;
  if (!within) void flow.setCenter(x, y, { zoom: flow.getZoom() });
  let left = PATIENCE;
  const attempt = () => {
    const element = find(id);
    if (element) element.focus({ preventScroll: true });
    else if (left-- > 0) requestAnimationFrame(attempt);
  };
  attempt();
}

/** The node that has the focus, or had it last; where that is gone the one that is nearest, at first the one at the top left. */
function currentNode(): FlowNode | undefined {
  const { nodes } = useFlow.getState();
  const known = nodes.find((node) => node.id === current);
  if (known) return known;
  const away = (node: FlowNode) => {
    if (current === null) return node.position.x + node.position.y;
    const [x, y] = middle(node);
    return Math.hypot(x - place[0], y - place[1]);
  };
  let nearest = nodes[0];
  for (const node of nodes) if (nearest && away(node) < away(nearest)) nearest = node;
  return nearest;
}

function move(by: Point): void {
  const places = Array.from(selectedBoxes(), ([id, { pos }]): [string, Point] => [id, [pos[0] + by[0] * STEP, pos[1] + by[1] * STEP]]);
  edit(moveItems(new Map(places)), { merge: "move" });
}

/** Out of the graph: to what comes after the nodes, or before the canvas. */
function leave(canvas: HTMLElement, backwards: boolean): void {
  const all = Array.from(document.querySelectorAll<HTMLElement>(TABBABLE)).filter(
    (element) => element.tabIndex >= 0 && !nodeOf(element) && element.checkVisibility(),
  );
  const place = all.indexOf(canvas);
  all[backwards ? place - 1 : place + 1]?.focus();
}

export function useKeyboard() {
  const flow = useReactFlow();
  const store = useStoreApi();
  useEffect(() => {
    const key = (event: globalThis.KeyboardEvent) => void (byTab = event.key === "Tab");
    const point = () => void (byTab = false);
    addEventListener("keydown", key, true);
    addEventListener("pointerdown", point, true);
    return () => {
      removeEventListener("keydown", key, true);
      removeEventListener("pointerdown", point, true);
    };
  }, []);
  return useMemo(() => {
    function enter(): void {
      const node = currentNode();
      if (node) focusNode(flow, node.id);
    }

    function stopDrawing(): void {
      store.setState({ connectionClickStartHandle: null });
      useUi.setState({ drawing: null });
    }

    /** The next socket of any node in view that may end the link. */
    function nextFitting(from: Element, canvas: HTMLElement, by: number): void {
      const all = Array.from(canvas.querySelectorAll<HTMLElement>('.socket[data-fits="true"]'));
      const place = from instanceof HTMLElement ? all.indexOf(from) : -1;
      all[(place + by + all.length + (place < 0 && by < 0 ? 1 : 0)) % all.length]?.focus({ preventScroll: true });
    }

    function press(event: KeyboardEvent<HTMLElement>): void {
      const target = event.target as HTMLElement;
      const canvas = event.currentTarget;
      const node = nodeOf(target);
      const drawing = useUi.getState().drawing !== null;
      const arrow = ARROWS[event.key];
      const done = () => {
        event.preventDefault();
        event.stopPropagation();
      };
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.key === "Escape" && drawing) {
        stopDrawing();
        return done();
      }
      if (target === canvas && (arrow || event.key === "Enter")) {
        enter();
        return done();
      }
      if (!node) return;
      const stops = stopsOf(node);
      const place = stops.indexOf(target);
      if (event.key === "Tab") {
        const by = event.shiftKey ? -1 : 1;
        if (drawing) nextFitting(target, canvas, by);
        else if (target === node && by < 0) leave(canvas, true);
        else if (place === 0 && by < 0) node.focus({ preventScroll: true });
        else if (stops[place + by]) stops[place + by]?.focus({ preventScroll: true });
        else leave(canvas, false);
        return done();
      }
      if (target === node) {
        const from = useFlow.getState().nodes.find((item) => item.id === node.dataset["id"]);
        if (arrow && event.shiftKey) {
          if (from && !from.selected) selectOnly(from.id);
          move(arrow);
        }
        else if (arrow && from) {
          const next = neighbour(useFlow.getState().nodes, from, arrow);
          if (next) focusNode(flow, next.id);
        } else if (event.key === "Enter" && from?.type === "notes") useWriting.setState({ id: from.id });
        else if (event.key === "Enter" && stops[0]) stops[0].focus({ preventScroll: true });
        else if (event.key === "Enter" && from) void flow.fitView({ nodes: [{ id: from.id }], maxZoom: 1 });
        else return;
        return done();
      }
      if (!target.classList.contains("socket")) return;
      if (event.key === "Enter" || event.key === " ") target.click();
      else if (event.key === "ArrowUp") stops[place - 1]?.focus({ preventScroll: true });
      else if (event.key === "ArrowDown") stops[place + 1]?.focus({ preventScroll: true });
      else if (event.key === "Delete" || event.key === "Backspace") {
        const handle = target.dataset["handleid"] ?? "";
        const ends = handle.startsWith("in:") ? inputsAt(node.dataset["id"] ?? "", handle) : [];
        edit(all(...ends.map((end) => cutWire(end.node, end.socket))));
      } else return;
      done();
    }

    function escape(event: KeyboardEvent<HTMLElement>): void {
      const node = nodeOf(event.target);
      if (event.key !== "Escape" || event.defaultPrevented || !node || event.target === node) return;
      // Afterwards: the field itself gives up what was typed, which would be taken if it lost the focus first. In the next frame, as
      // React Flow takes the focus from a node then.
      requestAnimationFrame(() => node.focus({ preventScroll: true }));
    }

    function focus(event: FocusEvent<HTMLElement>): void {
      const node = nodeOf(event.target);
      const from = event.relatedTarget ? nodeOf(event.relatedTarget) : null;
      if (byTab && !from && (event.target === event.currentTarget || (node && node.dataset["id"] !== current))) {
        byTab = false;
        enter();
      } else if (node) {
        const found = useFlow.getState().nodes.find((item) => item.id === node.dataset["id"]);
        if (found) remember(found);
      }
    }

    return { canvas: { tabIndex: 0, onKeyDownCapture: press, onKeyDown: escape, onFocus: focus }, stopDrawing };
  }, [flow, store]);
}
