import type { NodeTypes } from "../model/types";
import type { GraphNode } from "../model/workflow";
import { useDocument } from "../state/document";

const MOST_LETTERS = 200;

/** What a node goes by: its own title, its type's, or the type's name. */
export function titleOf(node: GraphNode, types: NodeTypes): string {
  return (node.title ?? types.get(node.type)?.title ?? node.type).slice(0, MOST_LETTERS);
}

export function nodeTitle(id: string): string {
  const { workflow, types } = useDocument.getState();
  const node = workflow.nodes[id];
  return node ? titleOf(node, types) : id;
}
