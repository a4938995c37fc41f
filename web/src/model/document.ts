/** Documents and API JSON read and written. ComfyUI's UI format and pictures are converted by the server. */

import { isObject, type Json, type JsonObject } from "./json";
import { BYPASSED, MUTED, RUN, type GraphNode, type Link, type Mode, type Point, type Workflow } from "./workflow";

export const VERSION = 1;
/** A place beyond this would be out of every reach. */
const FARTHEST = 1e6;
const OWN = new Set(["nodegraph", "title", "parameters", "prompt"]);

/** What cannot be read as a workflow, in one sentence for a person. */
export class NotAWorkflow extends Error {}

/** Whether the data is in a form that only the server reads. */
export function needsConversion(data: Json): boolean {
  return isObject(data) && !("nodegraph" in data) && Array.isArray(data["nodes"]);
}

/** The workflow of a document or of API JSON. Throws NotAWorkflow. Nodes that are not well formed are left out. */
export function readWorkflow(data: Json): Workflow {
  if (!isObject(data)) throw new NotAWorkflow("This file holds no workflow.");
  const isDocument = "nodegraph" in data || (isObject(data["prompt"]) && !("class_type" in data["prompt"]));
  const prompt = isDocument ? data["prompt"] : data;
  if (!isObject(prompt)) throw new NotAWorkflow("This file holds no workflow.");
  const nodes: Record<string, GraphNode> = {};
  for (const [id, item] of Object.entries(prompt)) {
    if (isObject(item) && typeof item["class_type"] === "string") nodes[id] = readNode(id, item["class_type"], item);
  }
  if (!Object.keys(nodes).length && Object.keys(prompt).length)
    throw new NotAWorkflow("This file holds no workflow: no node with a class_type is in it.");
  const extra: Record<string, Json> = {};
  if (isDocument) for (const [name, value] of Object.entries(data)) if (!OWN.has(name)) extra[name] = value;
  return {
    title: isDocument && typeof data["title"] === "string" ? data["title"] : "",
    nodes: placed(nodes),
    parameters: isDocument && isObject(data["parameters"]) ? data["parameters"] : {},
    extra,
  };
}

function readNode(id: string, type: string, data: JsonObject): GraphNode {
  const values: Record<string, Json> = {};
  const links: Record<string, Link> = {};
  const inputs = isObject(data["inputs"]) ? data["inputs"] : {};
  for (const [name, value] of Object.entries(inputs)) {
    const link = readLink(value);
    if (link) links[name] = link;
    else values[name] = value;
  }
  const { title, pos, size, mode, collapsed, ui, ...rest } = isObject(data["_meta"]) ? data["_meta"] : {};
  const { beneath, ...kept } = isObject(ui) ? ui : {};
  if (isObject(beneath)) for (const [name, value] of Object.entries(beneath)) values[name] ??= value;
  const meta = Object.keys(kept).length ? { ...rest, ui: kept } : rest;
  const place = readPoint(pos);
  const extent = readPoint(size);
  return {
    id,
    type,
    ...(typeof title === "string" && title && { title }),
    pos: place ?? [NaN, NaN],
    ...(extent && { size: extent }),
    mode: mode === MUTED || mode === BYPASSED ? mode : RUN,
    collapsed: collapsed === true,
    values,
    links,
    meta,
  };
}

/** The link that an input's JSON value is; null for a literal. */
export function readLink(value: Json): Link | null {
  if (!Array.isArray(value) || value.length !== 2) return null;
  const [source, output] = value as readonly Json[];
  if (typeof output !== "number" || !Number.isInteger(output) || output < 0) return null;
  if (typeof source === "string") return { source, output };
  return typeof source === "number" && Number.isInteger(source) ? { source: String(source), output } : null;
}

function readPoint(value: Json | undefined): Point | null {
  if (!Array.isArray(value)) return null;
  const [x, y] = value as readonly Json[];
  return typeof x === "number" && typeof y === "number" && Math.abs(x) <= FARTHEST && Math.abs(y) <= FARTHEST ? [x, y] : null;
}

/** The nodes, those without a place set out by how far they are from where the graph begins. */
function placed(nodes: Record<string, GraphNode>): Record<string, GraphNode> {
  const homeless = Object.values(nodes).filter((node) => Number.isNaN(node.pos[0]));
  if (!homeless.length) return nodes;
  const depths = new Map<string, number>();
  const most = Math.min(100, Object.keys(nodes).length);
  // Longest path by repeated passes, bounded: a cycle must not keep it going.
  for (let pass = 0, changed = true; changed && pass < 100; pass++) {
    changed = false;
    for (const node of Object.values(nodes)) {
      const depth = Math.max(0, ...Object.values(node.links).map((link) => (depths.get(link.source) ?? 0) + 1));
      if (depth !== depths.get(node.id) && depth < most) {
        depths.set(node.id, depth);
        changed = true;
      }
    }
  }
  const heights = new Map<number, number>();
  const found = { ...nodes };
  for (const node of homeless) {
    const depth = depths.get(node.id) ?? 0;
    const top = heights.get(depth) ?? 0;
    heights.set(depth, top + 90 + 30 * (Object.keys(node.values).length + Object.keys(node.links).length));
    found[node.id] = { ...node, pos: [depth * 380, top] };
  }
  return found;
}

/** The document's JSON: what is saved, shared and posted. */
export function writeWorkflow(workflow: Workflow): JsonObject {
  const prompt: Record<string, Json> = {};
  for (const node of Object.values(workflow.nodes)) prompt[node.id] = writeNode(node, true);
  return {
    nodegraph: VERSION,
    ...(workflow.title && { title: workflow.title }),
    ...(Object.keys(workflow.parameters).length && { parameters: workflow.parameters }),
    ...workflow.extra,
    prompt,
  };
}

/** Only the nodes, in ComfyUI's API format. Muted and bypassed ones are still in it: the server resolves them. */
export function writePrompt(workflow: Workflow): JsonObject {
  const prompt: Record<string, Json> = {};
  for (const node of Object.values(workflow.nodes)) prompt[node.id] = writeNode(node, false);
  return prompt;
}

function writeNode(node: GraphNode, layout: boolean): JsonObject {
  const inputs: Record<string, Json> = {};
  const beneath: Record<string, Json> = {};
  for (const [name, value] of Object.entries(node.values)) (name in node.links ? beneath : inputs)[name] = value;
  for (const [name, link] of Object.entries(node.links)) inputs[name] = [link.source, link.output];
  const title = node.title === undefined ? {} : { title: node.title };
  if (!layout) return { class_type: node.type, inputs, ...(node.title !== undefined && { _meta: title }) };
  const mode: Mode = node.mode;
  return {
    class_type: node.type,
    inputs,
    _meta: {
      ...title,
      pos: node.pos,
      ...(node.size && { size: node.size }),
      ...(node.collapsed && { collapsed: true }),
      ...(mode !== RUN && { mode }),
      ...node.meta,
      ...(Object.keys(beneath).length && { ui: { ...(isObject(node.meta["ui"]) && node.meta["ui"]), beneath } }),
    },
  };
}
