/**
 * What React Flow draws, made of the document. A node of the document that did not change keeps its object here, so
 * React Flow draws it no more; selection, sizes and the places of a drag under way live here alone.
 */

import { applyEdgeChanges, applyNodeChanges, type Edge, type EdgeChange, type Node, type NodeChange, type XYPosition } from "@xyflow/react";
import { create } from "zustand";
import { all, cutWire, moveItems, type Box, type Command } from "../../model/commands";
import { gateId, gatesOf, type Gate } from "../../model/boundary";
import { readLink } from "../../model/document";
import { itemOf, itemsOf, type Item, type Part } from "../../model/items";
import type { NodeTypes } from "../../model/types";
import { portsOf, type BoxPort } from "../../model/ports";
import { portName, standsFor, subgraphsOf, type Port } from "../../model/subgraphs";
import { declared, INSIDE, OUTSIDE, saidVia, stepsOf, viaInputs, viaOf, wireType } from "../../model/wires";
import type { GraphNode, Link, Point, Workflow } from "../../model/workflow";
import { edit, useDocument } from "../../state/document";
import { useScope } from "../../state/scope";
import { colourOf } from "../colours";
import { titleOf } from "../titles";
import { handleName, inputHandle, outputHandle } from "./handles";
import { estimate, widthOf } from "./metrics";

export type GraphFlowNode = Node<{ readonly node: GraphNode; readonly types: NodeTypes }, "graph">;
export type ItemFlowNode = Node<{ readonly item: Item }, Part>;
/** What feeds an open sub-graph, or is fed by it. */
export type GateFlowNode = Node<{ readonly gate: Gate }, "gates">;
export type FlowNode = GraphFlowNode | ItemFlowNode | GateFlowNode;
interface EdgeData extends Record<string, unknown> {
  /** The inputs that it feeds, wherever they are; of a reroute, its own. */
  readonly ends: readonly Port[];
  readonly type: string;
  /** It crosses the edge of a sub-graph. */
  readonly crosses: boolean;
}
export type FlowEdge = Edge<EdgeData> & { data: EdgeData };

interface FlowState {
  readonly nodes: FlowNode[];
  readonly edges: FlowEdge[];
}


export const useFlow = create<FlowState>()(() => ({ nodes: [], edges: [] }));

function sync(workflow: Workflow, types: NodeTypes): void {
  const { nodes, edges } = useFlow.getState();
  const known = new Map(nodes.map((node) => [node.id, node]));
  const wires = new Map(edges.map((edge) => [edge.id, edge]));
  const all = Object.values(workflow.nodes);
  const items = itemsOf(workflow).filter((item) => !(item.key in workflow.nodes));
  const { scope } = useScope.getState();
  const subgraphs = subgraphsOf(workflow);
  const here = (id: string) => (subgraphs.size ? standsFor(id, scope, subgraphs) : id);
  const shown = (id: string) => here(id) === id;
  const drawn: FlowNode[] = [
    ...items.filter((item) => shown(item.place)).map((item) => itemNode(item, known.get(item.key))),
    ...all.filter((node) => shown(node.id)).map((node) => flowNode(node, types, known.get(node.id))),
  ];
  const gates = scope ? gateNodes(gatesOf(workflow, scope), drawn, here, known) : [];

  /** Where a link into `target` begins on the canvas: at what is shown of all that it goes through. */
  function beginning(from: Link, target: string): Beginning | null {
    for (const step of stepsOf(workflow, from)) {
      const place = here(step.source);
      if (step.source in workflow.nodes) {
        if (place === step.source) return { source: step.source, sourceHandle: outputHandle(step.output), link: step };
        if (place === null) return { source: gateId("in", step), sourceHandle: outputHandle(0), link: step };
        const own = { node: step.source, socket: String(step.output) };
        return { source: place, sourceHandle: outputHandle(portName(boxOutput(place, target, own) ?? own)), link: step };
      }
      if (scope && step.source === `${scope}:${INSIDE}`) return { source: gateId("in", step), sourceHandle: outputHandle(0), link: step };
      const part = itemOf(workflow, step.source)?.part;
      if (place === step.source && part === "subgraphs" && step.source !== target) {
        const port = portsOf(workflow, step.source).outputs[step.output];
        return port ? { source: step.source, sourceHandle: outputHandle(portName(port)), link: step } : null;
      }
      if (place === step.source && (part === "reroutes" || part === "primitives"))
        return { source: step.source, sourceHandle: outputHandle(step.output), link: step };
    }
    return null;
  }

  /** The output of a closed sub-graph through which an output inside feeds an input outside. */
  function boxOutput(box: string, target: string, { node, socket }: Port): BoxPort | undefined {
    const { outputs } = portsOf(workflow, box);
    const feeds = (port: BoxPort) => port.ends.some((end) => here(end.node) === target && workflow.nodes[end.node]?.links[end.socket]?.source === node);
    return outputs.find((port) => port.index === null && port.node === node && port.socket === socket) ?? outputs.find(feeds);
  }

  function wire(id: string, from: Link | null, target: string, targetHandle: string, ends: readonly Port[]): FlowEdge[] {
    const begin = from && beginning(from, target);
    if (!begin || begin.source === target) return [];
    const { source, sourceHandle, link } = begin;
    const type = wireType(workflow, types, link);
    const old = wires.get(id);
    const same = old?.source === source && old.sourceHandle === sourceHandle && old.target === target && old.targetHandle === targetHandle;
    if (old && same && old.data.type === type && old.data.ends.map(portName).join() === ends.map(portName).join()) return [old];
    const crosses = source !== link.source || target !== ends[0]?.node;
    return [
      { id, source, sourceHandle, target, targetHandle, data: { ends, type, crosses }, style: { stroke: colourOf(type) }, ...(old?.selected && { selected: true }) },
    ];
  }

  function intoNode(node: GraphNode): FlowEdge[] {
    const place = here(node.id);
    if (place === null) return [];
    const inputs = [...Object.keys(node.links), ...viaInputs(workflow, node.id).filter((input) => !(input in node.links) && place === node.id)];
    return inputs.flatMap((input) => {
      const from = viaOf(workflow, node.id, input) ?? node.links[input] ?? null;
      if (!from || (place !== node.id && here(node.links[input]?.source ?? "") === place)) return [];
      const end = { node: node.id, socket: input };
      // One into a port that a closed sub-graph says it has is drawn once, for all that it feeds.
      if (place !== node.id && declaredPort(place, end)) return [];
      return wire(`${node.id} ${input}`, from, place, place === node.id ? inputHandle(input) : `in:${portName(end)}`, [end]);
    });
  }

  const declaredPort = (box: string, end: Port): boolean =>
    portsOf(workflow, box).inputs.some((port) => port.index !== null && port.ends.some((one) => portName(one) === portName(end)));

  function intoBox({ part, key }: Item): FlowEdge[] {
    if (part !== "subgraphs" || !shown(key)) return [];
    return portsOf(workflow, key).inputs.flatMap((port) =>
      port.index === null ? [] : wire(portName(port), saidVia(workflow, key, port.socket), key, inputHandle(portName(port)), [{ node: key, socket: port.socket }]),
    );
  }

  useFlow.setState({
    nodes: [...drawn, ...gates],
    edges: [
      ...all.flatMap(intoNode),
      ...items.flatMap(intoBox),
      ...items.flatMap(({ part, key, data }) =>
        part === "reroutes" && shown(key)
          ? wire(`${key} ${REROUTE_INPUT}`, readLink(data["from"] ?? null), key, inputHandle(REROUTE_INPUT), [{ node: key, socket: REROUTE_INPUT }])
          : [],
      ),
      ...gates.flatMap(({ id, data: { gate } }) => {
        const [first] = gate.ends;
        if (gate.side === "in") return [];
        if (gate.port) return wire(id, outputFrom(workflow, scope, gate.port), id, inputHandle(REROUTE_INPUT), gateEnds(scope, gate));
        if (!first) return [];
        return wire(id, viaOf(workflow, first.node, first.socket) ?? gate.source, id, inputHandle(REROUTE_INPUT), gate.ends);
      }),
    ],
  });
}

interface Beginning {
  readonly source: string;
  readonly sourceHandle: string;
  /** What it is in the document. */
  readonly link: Link;
}

/** What feeds a declared output of a sub-graph inside. */
function outputFrom(workflow: Workflow, subgraph: string, { index }: BoxPort): Link | null {
  const frame = itemOf(workflow, subgraph);
  return (frame && declared(frame, "outputs")[index ?? -1]?.from) ?? null;
}

/** The inputs for which a gate stands: of a declared output the sub-graph's own. */
function gateEnds(scope: string, { side, ends, port }: Gate): readonly Port[] {
  return side === "out" && port ? [{ node: `${scope}:${OUTSIDE}`, socket: String(port.index) }] : ends;
}

const GATE = { width: 190, row: 26, room: 90, gap: 14 } as const;

/** Boxes for the gates: to the left of all that is drawn what comes in, to the right what goes out. */
function gateNodes(gates: readonly Gate[], drawn: readonly FlowNode[], here: (id: string) => string | null, known: ReadonlyMap<string, FlowNode>): GateFlowNode[] {
  const boxes = new Map(drawn.map((node) => [node.id, boxOf(node)]));
  // Where nothing is in it any more, its ports still are, where they were.
  const all: readonly Box[] = boxes.size ? [...boxes.values()] : [{ pos: [0, 0], size: [0, 0] }];
  const top = Math.min(...all.map((box) => box.pos[1]));
  const left = Math.min(...all.map((box) => box.pos[0])) - GATE.room - GATE.width;
  const right = Math.max(...all.map((box) => box.pos[0] + box.size[0])) + GATE.room;
  const { workflow } = useDocument.getState();
  const { scope } = useScope.getState();
  function near({ side, source, ends, port }: Gate): number {
    const [at] = side === "in" ? [ends[0]?.node] : [port ? outputFrom(workflow, scope, port)?.source : source.source];
    return boxes.get(here(at ?? "") ?? "")?.pos[1] ?? Infinity;
  }
  const next = { in: top, out: top };
  return gates
    .map((gate) => ({ gate, at: near(gate) }))
    // What is used by nothing comes last, in its own order.
    .toSorted((one, other) => (one.at === other.at ? 0 : one.at - other.at))
    .map(({ gate }): GateFlowNode => {
      const id = gateId(gate.side, gate.source);
      const height = GATE.row * (gate.side === "in" ? 1 : Math.max(1, gate.ends.length)) + GATE.row;
      const old = known.get(id);
      const position = (!boxes.size && old?.position) || { x: gate.side === "in" ? left : right, y: next[gate.side] };
      next[gate.side] += height + GATE.gap;
      return {
        ...(old?.type === "gates" && old),
        id,
        type: "gates",
        ...placedAt(position),
        width: GATE.width,
        height,
        measured: { width: GATE.width, height },
        draggable: false,
        selectable: false,
        deletable: false,
        data: { gate },
      };
    });
}

export const REROUTE_INPUT = "*";

function flowNode(node: GraphNode, types: NodeTypes, old: FlowNode | undefined): GraphFlowNode {
  const own = old?.type === "graph" ? old : undefined;
  if (own && own.data.node === node && own.data.types === types) return own;
  const same = own?.data.node.type === node.type;
  // The height that a drag gave it is the document's from then on.
  const { height: _, ...kept } = own ?? {};
  return {
    ...(same && kept),
    // Until it was measured, size and sockets are reckoned: what is out of view need not be drawn to be known.
    ...(!(same && !own.handles) && estimate(node, types)),
    id: node.id,
    type: "graph",
    ...placedAt({ x: node.pos[0], y: node.pos[1] }),
    width: widthOf(node),
    data: { node, types },
    ariaLabel: titleOf(node, types),
  };
}

/** A place, and the style that puts a node there: hundreds of transforms, which React Flow would use, are slow to move together. */
function placedAt(position: XYPosition): Pick<FlowNode, "position"> & { style: { transform: string; left: number; top: number } } {
  return { position, style: { transform: "none", left: position.x, top: position.y } };
}

function itemNode(item: Item, old: FlowNode | undefined): ItemFlowNode {
  const own = old?.type === item.part ? (old as ItemFlowNode) : undefined;
  if (own?.data.item === item) return own;
  const [width, height] = item.size;
  const fixed = item.part === "groups" || item.part === "notes";
  return {
    ...own,
    id: item.key,
    type: item.part,
    ...placedAt({ x: item.pos[0], y: item.pos[1] }),
    ...(fixed && { width, height, measured: { width, height } }),
    ...(item.part === "groups" && { zIndex: -1, dragHandle: ".group-head" }),
    data: { item },
  };
}

useScope.subscribe(() => {
  const { workflow, types } = useDocument.getState();
  sync(workflow, types);
});

useDocument.subscribe((now, before) => {
  if (now.workflow !== before.workflow || now.types !== before.types) sync(now.workflow, now.types);
});

/** What lies in each group that is being moved, from when the movement began. */
const carried = new Map<string, readonly string[]>();

/** The changes, and with each group's those of what lies in it. */
function withCarried(changes: NodeChange<FlowNode>[], nodes: readonly FlowNode[]): NodeChange<FlowNode>[] {
  const groups = changes.filter((change) => change.type === "position" && nodes.find(({ id }) => id === change.id)?.type === "groups");
  if (!groups.length) return changes;
  const moved = new Set(changes.flatMap((change) => (change.type === "position" ? [change.id] : [])));
  const found = [...changes];
  for (const change of groups) {
    if (change.type !== "position" || !change.position) continue;
    const group = nodes.find(({ id }) => id === change.id) as FlowNode;
    if (!carried.has(group.id)) carried.set(group.id, within(boxOf(group), nodes).filter((id) => id !== group.id));
    const [x, y] = [change.position.x - group.position.x, change.position.y - group.position.y];
    for (const node of nodes) {
      if (moved.has(node.id) || !carried.get(group.id)?.includes(node.id)) continue;
      moved.add(node.id);
      const position = { x: node.position.x + x, y: node.position.y + y };
      found.push({ type: "position", id: node.id, position, ...(change.dragging !== undefined && { dragging: change.dragging }) });
    }
    if (!change.dragging) carried.delete(group.id);
  }
  return found;
}

/** Ids of what lies in a box, as a group counts it: with its middle. */
export function within({ pos: [left, top], size: [width, height] }: Box, nodes: readonly FlowNode[]): string[] {
  return nodes
    .filter((node) => {
      const { pos, size } = boxOf(node);
      const [x, y] = [pos[0] + size[0] / 2, pos[1] + size[1] / 2];
      return x > left && x < left + width && y > top && y < top + height;
    })
    .map((node) => node.id);
}

/** Where a node lies and how large it is drawn. */
export function boxOf(node: FlowNode): Box {
  const { width = 0, height = 0 } = node.measured ?? {};
  return { pos: [node.position.x, node.position.y], size: [width, height] };
}

/** The box around nodes. */
export function boundsOf(nodes: readonly FlowNode[]): { x: number; y: number; width: number; height: number } {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const node of nodes) {
    const { pos: [x, y], size: [width, height] } = boxOf(node);
    left = Math.min(left, x);
    top = Math.min(top, y);
    right = Math.max(right, x + width);
    bottom = Math.max(bottom, y + height);
  }
  return { x: left, y: top, width: right - left, height: bottom - top };
}

export function changeNodes(given: NodeChange<FlowNode>[]): void {
  const changes = withCarried(given, useFlow.getState().nodes);
  const places = new Map<string, Point>();
  for (const change of changes) {
    if (change.type === "position" && change.position && !change.dragging)
      places.set(change.id, [Math.round(change.position.x), Math.round(change.position.y)]);
  }
  const changed = new Set(changes.flatMap((change) => (change.type === "dimensions" || change.type === "position" ? [change.id] : [])));
  const measured = new Set(changes.filter((change) => change.type === "dimensions").map((change) => change.id));
  let nodes = applyNodeChanges(changes, useFlow.getState().nodes);
  if (changed.size)
    nodes = nodes.map((node) => {
      if (!changed.has(node.id)) return node;
      const { handles, ...rest } = node;
      return { ...rest, ...(handles && !measured.has(node.id) && { handles }), ...placedAt(node.position) } as FlowNode;
    });
  useFlow.setState({ nodes });
  if (places.size) edit(moveItems(places), { merge: "move" });
}

export function changeEdges(changes: EdgeChange<FlowEdge>[]): void {
  useFlow.setState({ edges: applyEdgeChanges(changes, useFlow.getState().edges) });
}

/** Ids of the selected nodes, and the selected links. */
export function selection(): { nodes: string[]; edges: FlowEdge[] } {
  const { nodes, edges } = useFlow.getState();
  return {
    nodes: nodes.filter((node) => node.selected).map((node) => node.id),
    edges: edges.filter((edge) => edge.selected),
  };
}

export function selectAll(): void {
  useFlow.setState(({ nodes }) => ({
    nodes: nodes.map((node) => (node.selected || node.selectable === false ? node : { ...node, selected: true })),
  }));
}

/** The output that a socket on the canvas stands for: of a sub-graph the one inside, of a gate the one outside. */
export function outputAt(id: string, handle: string): Link | null {
  const node = useFlow.getState().nodes.find((item) => item.id === id);
  if (node?.type === "gates") return node.data.gate.source;
  const name = handleName(handle);
  const port = node?.type === "subgraphs" ? portsOf(useDocument.getState().workflow, id).outputs.find((one) => portName(one) === name) : undefined;
  return port ? { source: port.node, output: Number(port.socket) } : node?.type === "subgraphs" ? null : { source: id, output: Number(name) };
}

/** The inputs that a socket on the canvas stands for. */
export function inputsAt(id: string, handle: string): readonly Port[] {
  const node = useFlow.getState().nodes.find((item) => item.id === id);
  if (node?.type === "gates") return gateEnds(useScope.getState().scope, node.data.gate);
  const name = handleName(handle);
  if (node?.type !== "subgraphs") return [{ node: id, socket: name }];
  return portsOf(useDocument.getState().workflow, id).inputs.filter((one) => portName(one) === name);
}

/** Cut a link as it is drawn, with all that it feeds. */
export const cutEdge = ({ data: { ends } }: FlowEdge): Command => all(...ends.map(({ node, socket }) => cutWire(node, socket)));

export function selectOnly(...ids: readonly string[]): void {
  const chosen = new Set(ids);
  useFlow.setState(({ nodes, edges }) => ({
    nodes: nodes.map((node) => ((node.selected ?? false) === chosen.has(node.id) ? node : { ...node, selected: chosen.has(node.id) })),
    edges: edges.map((edge) => (edge.selected ? { ...edge, selected: false } : edge)),
  }));
}

/** The boxes of the selected nodes and items, by id. */
export function selectedBoxes(): ReadonlyMap<string, Box> {
  return new Map(useFlow.getState().nodes.filter((node) => node.selected).map((node) => [node.id, boxOf(node)]));
}
