/**
 * What React Flow draws, made of the document. A node of the document that did not change keeps its object here, so
 * React Flow draws it no more; selection, sizes and the places of a drag under way live here alone.
 */

import { applyEdgeChanges, applyNodeChanges, type Edge, type EdgeChange, type Node, type NodeChange } from "@xyflow/react";
import { create } from "zustand";
import { moveNodes } from "../../model/commands";
import type { NodeTypes } from "../../model/types";
import type { GraphNode, Point, Workflow } from "../../model/workflow";
import { outputType } from "../../model/validation";
import { edit, useDocument } from "../../state/document";
import { colourOf } from "../colours";
import { titleOf } from "../titles";
import { estimate, widthOf } from "./metrics";

export type FlowNode = Node<{ readonly node: GraphNode; readonly types: NodeTypes }, "graph">;
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
  useFlow.setState({
    nodes: all.map((node) => flowNode(node, types, known.get(node.id))),
    edges: all.flatMap((node) => flowEdges(node, workflow, types, wires)),
  });
}

function flowNode(node: GraphNode, types: NodeTypes, old: FlowNode | undefined): FlowNode {
  if (old && old.data.node === node && old.data.types === types) return old;
  const same = old?.data.node.type === node.type;
  return {
    ...(same && old),
    // Until it was measured, size and sockets are reckoned: what is out of view need not be drawn to be known.
    ...(!(same && !old.handles) && estimate(node, types)),
    id: node.id,
    type: "graph",
    position: { x: node.pos[0], y: node.pos[1] },
    width: widthOf(node),
    data: { node, types },
    ariaLabel: titleOf(node, types),
  };
}

function flowEdges(node: GraphNode, workflow: Workflow, types: NodeTypes, old: ReadonlyMap<string, FlowEdge>): FlowEdge[] {
  return Object.entries(node.links).flatMap(([input, link]) => {
    if (!workflow.nodes[link.source]) return [];
    const id = `${node.id} ${input}`;
    const type = outputType(workflow, types, link);
    const known = old.get(id);
    const sourceHandle = outputHandle(link.output);
    if (known && known.source === link.source && known.sourceHandle === sourceHandle && known.data.type === type) return [known];
    return [
      {
        id,
        source: link.source,
        sourceHandle,
        target: node.id,
        targetHandle: inputHandle(input),
        data: { input, type },
        style: { stroke: colourOf(type) },
        ...(known?.selected && { selected: true }),
      },
    ];
  });
}

useDocument.subscribe((now, before) => {
  if (now.workflow !== before.workflow || now.types !== before.types) sync(now.workflow, now.types);
});

export function changeNodes(changes: NodeChange<FlowNode>[]): void {
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
      return rest;
    });
  useFlow.setState({ nodes });
  if (places.size) edit(moveNodes(places), { merge: "move" });
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

export function selectOnly(id: string): void {
  useFlow.setState(({ nodes }) => ({
    nodes: nodes.map((node) => ((node.selected ?? false) === (node.id === id) ? node : { ...node, selected: node.id === id })),
  }));
}
