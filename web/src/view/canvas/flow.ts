/**
 * What React Flow draws, made of the document. A node of the document that did not change keeps its object here, so
 * React Flow draws it no more; selection, sizes and the places of a drag under way live here alone.
 */

import { applyEdgeChanges, applyNodeChanges, type Edge, type EdgeChange, type Node, type NodeChange } from "@xyflow/react";
import { create } from "zustand";
import { moveItems, type Box } from "../../model/commands";
import { readLink } from "../../model/document";
import { itemsOf, type Item, type Part } from "../../model/items";
import type { NodeTypes } from "../../model/types";
import { portName, standsFor, subgraphsOf } from "../../model/subgraphs";
import { viaInputs, viaOf, wireType } from "../../model/wires";
import type { GraphNode, Link, Point, Workflow } from "../../model/workflow";
import { edit, useDocument } from "../../state/document";
import { useScope } from "../../state/scope";
import { colourOf } from "../colours";
import { titleOf } from "../titles";
import { estimate, widthOf } from "./metrics";

export type GraphFlowNode = Node<{ readonly node: GraphNode; readonly types: NodeTypes }, "graph">;
export type ItemFlowNode = Node<{ readonly item: Item }, Part>;
export type FlowNode = GraphFlowNode | ItemFlowNode;
export type FlowEdge = Edge<{ readonly input: string; readonly type: string }> & { data: { input: string; type: string } };

interface FlowState {
  readonly nodes: FlowNode[];
  readonly edges: FlowEdge[];
}

export const inputHandle = (name: string): string => `in:${name}`;
export const outputHandle = (index: number): string => `out:${index}`;
export const handleName = (handle: string): string => handle.slice(handle.indexOf(":") + 1);

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
  const wire = (target: string, input: string, from: Link | null) => flowEdge(target, input, from, workflow, types, wires);
  useFlow.setState({
    nodes: [
      ...items.filter((item) => shown(placeId(item))).map((item) => itemNode(item, known.get(item.key))),
      ...all.filter((node) => shown(node.id)).map((node) => flowNode(node, types, known.get(node.id))),
    ],
    edges: [
      ...all.flatMap((node) => [
        ...Object.entries(node.links).flatMap(([input, link]) => {
          const [from, to] = [here(link.source), here(node.id)];
          if (from === link.source && to === node.id) return wire(node.id, input, viaOf(workflow, node.id, input) ?? link);
          return from && to && from !== to ? [boundaryEdge(node.id, input, link, from, to, wireType(workflow, types, link))] : [];
        }),
        ...viaInputs(workflow, node.id).flatMap((input) =>
          input in node.links || !shown(node.id) ? [] : wire(node.id, input, viaOf(workflow, node.id, input)),
        ),
      ]),
      ...items.flatMap(({ part, key, data }) => (part === "reroutes" && shown(key) ? wire(key, REROUTE_INPUT, readLink(data["from"] ?? null)) : [])),
    ],
  });
}

/** The id by which an item's scope is known. Groups outside sub-graphs have numbers, those inside are not drawn. */
const placeId = (item: Item): string => (item.part === "notes" ? String(item.data["id"] ?? "") : item.part === "groups" ? "" : item.key);

/** A link into or out of a sub-graph. It is changed inside. */
function boundaryEdge(target: string, input: string, link: Link, from: string, to: string, type: string): FlowEdge {
  return {
    id: `${target} ${input}`,
    source: from,
    sourceHandle: from === link.source ? outputHandle(link.output) : `out:${portName({ node: link.source, socket: String(link.output) })}`,
    target: to,
    targetHandle: inputHandle(to === target ? input : portName({ node: target, socket: input })),
    data: { input, type },
    style: { stroke: colourOf(type) },
    selectable: false,
    reconnectable: false,
  };
}

export const REROUTE_INPUT = "*";

function flowNode(node: GraphNode, types: NodeTypes, old: FlowNode | undefined): GraphFlowNode {
  const own = old?.type === "graph" ? old : undefined;
  if (own && own.data.node === node && own.data.types === types) return own;
  const same = own?.data.node.type === node.type;
  return {
    ...(same && own),
    // Until it was measured, size and sockets are reckoned: what is out of view need not be drawn to be known.
    ...(!(same && !own.handles) && estimate(node, types)),
    id: node.id,
    type: "graph",
    position: { x: node.pos[0], y: node.pos[1] },
    width: widthOf(node),
    data: { node, types },
    ariaLabel: titleOf(node, types),
  };
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
    position: { x: item.pos[0], y: item.pos[1] },
    ...(fixed && { width, height, measured: { width, height } }),
    ...(item.part === "groups" && { zIndex: -1, dragHandle: ".group-head" }),
    data: { item },
  };
}

function flowEdge(
  target: string,
  input: string,
  from: Link | null,
  workflow: Workflow,
  types: NodeTypes,
  old: ReadonlyMap<string, FlowEdge>,
): FlowEdge[] {
  if (!from || !(from.source in workflow.nodes || itemsOf(workflow).some((item) => item.key === from.source))) return [];
  const id = `${target} ${input}`;
  const type = wireType(workflow, types, from);
  const known = old.get(id);
  const sourceHandle = outputHandle(from.output);
  if (known && known.source === from.source && known.sourceHandle === sourceHandle && known.data.type === type) return [known];
  return [
    {
      id,
      source: from.source,
      sourceHandle,
      target,
      targetHandle: inputHandle(input),
      data: { input, type },
      style: { stroke: colourOf(type) },
      ...(known?.selected && { selected: true }),
    },
  ];
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

export function changeNodes(given: NodeChange<FlowNode>[]): void {
  const changes = withCarried(given, useFlow.getState().nodes);
  const places = new Map<string, Point>();
  for (const change of changes) {
    if (change.type === "position" && change.position && !change.dragging)
      places.set(change.id, [Math.round(change.position.x), Math.round(change.position.y)]);
  }
  const measured = new Set(changes.filter((change) => change.type === "dimensions").map((change) => change.id));
  let nodes = applyNodeChanges(changes, useFlow.getState().nodes);
  if (measured.size)
    nodes = nodes.map((node) => {
      if (!measured.has(node.id) || !node.handles) return node;
      const { handles, ...rest } = node;
      return rest as FlowNode;
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
  useFlow.setState(({ nodes }) => ({ nodes: nodes.map((node) => (node.selected ? node : { ...node, selected: true })) }));
}

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
