/** What keys, menus and the clipboard do on the canvas. */

import type { ReactFlowInstance } from "@xyflow/react";
import {
  added,
  addGroup,
  addNote,
  addReroute,
  align,
  all,
  collapseNodes,
  cornerOf,
  distribute,
  fragmentOf,
  modeOf,
  moveItems,
  offAround,
  packNodes,
  paste,
  removeItems,
  removePort,
  setMode,
  type Alignment,
  type Command,
  type Distribution,
} from "../../model/commands";
import type { Gate } from "../../model/boundary";
import { arranged } from "../../model/layout";
import { RUN, type Mode, type Point, type Workflow } from "../../model/workflow";
import { copied, readFragment } from "../../state/clipboard";
import { edit, useDocument } from "../../state/document";
import { openFile } from "../../state/files";
import { addPicture, imageInputOf, uploadInto } from "../../state/pictures";
import { useNaming, useWriting } from "../../state/menu";
import { useScope } from "../../state/scope";
import { useUi } from "../../state/ui";
import { t } from "../../strings";
import { calm, FIT } from "../motion";
import { boxOf, cutEdge, selectedBoxes, selection, selectOnly, useFlow, type GateFlowNode } from "./flow";

type Flow = ReactFlowInstance;
interface Place {
  readonly x: number;
  readonly y: number;
}

/** Where the pointer was last seen over the canvas. */
let pointer: Place | null = null;
export function notePointer(place: Place | null): void {
  pointer = place;
}

function placeOf(flow: Flow, at: Place | null = pointer): Point {
  const box = document.querySelector(".canvas")?.getBoundingClientRect();
  const middle = { x: (box?.x ?? 0) + (box?.width ?? innerWidth) / 2, y: (box?.y ?? 0) + (box?.height ?? innerHeight) / 2 };
  const { x, y } = flow.screenToFlowPosition(at ?? middle);
  return [Math.round(x), Math.round(y)];
}

/** Do it, and select what it added. */
function adding(command: Command): void {
  const before = useDocument.getState().workflow;
  edit(command);
  selectOnly(...added(before, useDocument.getState().workflow));
}

export function removeSelected(): void {
  const { nodes, edges } = selection();
  const gates = useFlow.getState().nodes.filter((node) => node.selected && node.type === "gates").map((node) => (node as GateFlowNode).data.gate);
  if (nodes.length || edges.length) edit(all(...edges.map(cutEdge), ...gates.map(removeGate), removeItems(nodes)));
}

/** Take a port of the open sub-graph away. */
const removeGate = ({ side, ends, port }: Gate): Command => removePort(useScope.getState().scope, side === "in" ? "inputs" : "outputs", port ?? { index: null, ends });

export function duplicate(): void {
  const { workflow } = useDocument.getState();
  adding(paste(fragmentOf(workflow, selection().nodes), [40, 40], true, useScope.getState().scope));
}

export function toggleMode(mode: Mode): void {
  const { nodes } = selection();
  const { workflow } = useDocument.getState();
  const free = nodes.filter((id) => !offAround(workflow, id));
  if (free.length < nodes.length) useUi.getState().tell(t("subgraph.off"));
  const on = free.some((id) => ![undefined, mode].includes(modeOf(workflow, id)));
  edit(setMode(free, on ? mode : RUN));
}

export function toggleCollapsed(): void {
  const { nodes } = selection();
  const { workflow } = useDocument.getState();
  edit(collapseNodes(nodes, nodes.some((id) => workflow.nodes[id]?.collapsed === false)));
}

export function rename(): void {
  const [id] = selection().nodes;
  if (id !== undefined) useNaming.setState({ id });
}

export function alignSelected(how: Alignment): void {
  edit(align(selectedBoxes(), how));
}

export function distributeSelected(how: Distribution): void {
  edit(distribute(selectedBoxes(), how));
}

/** Lay the selected nodes out, or all where fewer than two are selected. */
export async function arrange(flow: Flow): Promise<void> {
  const { workflow } = useDocument.getState();
  const isNode = (id: string) => id in workflow.nodes;
  let boxes = new Map([...selectedBoxes()].filter(([id]) => isNode(id)));
  const whole = boxes.size < 2;
  if (whole) boxes = new Map(useFlow.getState().nodes.filter(({ id }) => isNode(id)).map((node) => [node.id, boxOf(node)]));
  if (!boxes.size) return;
  edit(moveItems(await arranged(workflow, boxes)));
  if (whole) requestAnimationFrame(() => fit(flow));
}

export function fit(flow: Flow): void {
  void flow.fitView({ ...FIT, duration: calm(200) });
}

export function fitSelected(flow: Flow): void {
  const { nodes } = selection();
  void flow.fitView({ duration: calm(200), maxZoom: 1, padding: 0.2, ...(nodes.length && { nodes: nodes.map((id) => ({ id })) }) });
}

export function addNoteAt(flow: Flow, at?: Place): void {
  adding(addNote(placeOf(flow, at), "", useScope.getState().scope));
  useWriting.setState({ id: selection().nodes[0] ?? null });
}

/** A group around what is selected, or an empty one at a place. */
export function group(flow: Flow, at?: Place): void {
  const boxes = [...selectedBoxes().values()];
  let [left, top] = placeOf(flow, at);
  let size: Point = [400, 240];
  if (boxes.length) {
    const [room, head] = [24, 44];
    left = Math.min(...boxes.map((box) => box.pos[0])) - room;
    top = Math.min(...boxes.map((box) => box.pos[1])) - head - room / 2;
    size = [
      Math.max(...boxes.map((box) => box.pos[0] + box.size[0])) + room - left,
      Math.max(...boxes.map((box) => box.pos[1] + box.size[1])) + room - top,
    ];
  }
  const whole = (point: Point): Point => [Math.round(point[0]), Math.round(point[1])];
  adding(addGroup({ pos: whole([left, top]), size: whole(size) }, t("group.title"), useScope.getState().scope));
}

export function rerouteAt(flow: Flow, at: Place, target: string, input: string): void {
  const [x, y] = placeOf(flow, at);
  adding(addReroute(target, input, [x - 22, y - 14]));
}

/** A sub-graph of the selected nodes. */
export function pack(): void {
  adding(packNodes(selection().nodes, t("subgraph.title")));
}

export async function pasteText(flow: Flow, text: string, at: Place | null = pointer): Promise<void> {
  const fragment = await readFragment(text);
  if (fragment) pasteFragment(flow, fragment, at);
  else useUi.getState().tell(t("paste.nothing"));
}

function pasteFragment(flow: Flow, fragment: Workflow, at: Place | null): void {
  const [x, y] = placeOf(flow, at);
  const [left, top] = cornerOf(fragment);
  adding(paste(fragment, [x - left, y - top], false, useScope.getState().scope));
}

/** A picture goes into the node that it was dropped on or that is selected, or into a new one. */
export async function pastePicture(flow: Flow, file: File, at: Place | null = pointer, node?: string): Promise<void> {
  const target = node ?? selection().nodes.find((id) => imageInputOf(id) !== undefined);
  const input = target === undefined ? undefined : imageInputOf(target);
  if (target !== undefined && input !== undefined) return uploadInto(target, input, file);
  await addPictureAt(flow, file, at);
}

async function addPictureAt(flow: Flow, file: File, at: Place | null): Promise<void> {
  const id = await addPicture(file, placeOf(flow, at));
  if (id !== null) selectOnly(id);
}

/** A picture that carries a workflow is opened, any other becomes a node that loads it. */
export async function dropFile(flow: Flow, file: File, at: Place, node?: string): Promise<void> {
  if (!file.type.startsWith("image/")) return openFile(file);
  if (node !== undefined && imageInputOf(node) !== undefined) return pastePicture(flow, file, at, node);
  if (await carriesWorkflow(file)) return openFile(file);
  return addPictureAt(flow, file, at);
}

/** Whether a PNG has a text chunk of a workflow or of A1111, or a WebP an EXIF entry of one. */
async function carriesWorkflow(file: File): Promise<boolean> {
  const text = new TextDecoder("latin1").decode(await file.slice(0, 2 ** 20).arrayBuffer());
  return /(tEXt|iTXt|zTXt)(prompt|workflow|parameters)\0/.test(text) || /(prompt|workflow):\{/i.test(text);
}

export function copy(event: ClipboardEvent, cut: boolean): void {
  const { nodes } = selection();
  const text = copied(nodes);
  if (text === null || !event.clipboardData) return;
  event.clipboardData.setData("text/plain", text);
  event.preventDefault();
  if (cut) edit(removeItems(nodes));
}

export function pasteEvent(flow: Flow, event: ClipboardEvent): void {
  const data = event.clipboardData;
  if (!data) return;
  const picture = [...data.files].find((file) => file.type.startsWith("image/"));
  event.preventDefault();
  if (picture) void pastePicture(flow, picture);
  else void pasteText(flow, data.getData("text/plain"));
}
