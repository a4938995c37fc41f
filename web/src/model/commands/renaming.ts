/** Ids changed everywhere at once: in nodes, links, parameters and all of the canvas. */

import { readLink } from "../document";
import { PARTS } from "../items";
import { isObject, type Json, type JsonObject } from "../json";
import type { GraphNode, Link, Workflow } from "../workflow";

/** The document with ids replaced. What lies in a sub-graph that gets another id goes along. */
export function withNames(workflow: Workflow, names: ReadonlyMap<string, string>): Workflow {
  function called(id: string): string {
    for (let end = id.length; end > 0; end = id.lastIndexOf(":", end - 1)) {
      const name = names.get(id.slice(0, end));
      if (name !== undefined) return name + id.slice(end);
    }
    return id;
  }
  const wire = (link: Link): Link => {
    const source = called(link.source);
    return source === link.source ? link : { ...link, source };
  };
  const nodes: Record<string, GraphNode> = {};
  for (const node of Object.values(workflow.nodes)) {
    const id = called(node.id);
    const links: Record<string, Link> = {};
    let moved = false;
    for (const [input, link] of Object.entries(node.links)) {
      links[input] = wire(link);
      moved ||= links[input] !== link;
    }
    nodes[id] = id === node.id && !moved ? node : { ...node, id, ...(moved && { links }) };
  }
  const target = (item: Json): Json => {
    const id = isObject(item) ? called(String(item["node"])) : undefined;
    return isObject(item) && id !== item["node"] && typeof item["node"] === "string" ? { ...item, node: id as string } : item;
  };
  const parameters: Record<string, Json> = {};
  for (const [name, declared] of Object.entries(workflow.parameters))
    parameters[name] = Array.isArray(declared) ? (declared as readonly Json[]).map(target) : target(declared);
  return { ...withWires({ ...workflow, nodes, parameters, extra: withIds(workflow.extra, called) }, wire) };
}

function withIds(extra: JsonObject, called: (id: string) => string): JsonObject {
  const { canvas } = extra;
  if (!isObject(canvas)) return extra;
  const found: Record<string, Json> = { ...canvas };
  for (const part of PARTS) {
    const list = canvas[part];
    if (Array.isArray(list))
      found[part] = (list as readonly Json[]).map((item) => {
        const id = isObject(item) ? item["id"] : undefined;
        return isObject(item) && typeof id === "string" && called(id) !== id ? { ...item, id: called(id) } : item;
      });
  }
  if (isObject(canvas["via"])) found["via"] = Object.fromEntries(Object.entries(canvas["via"]).map(([id, inputs]) => [called(id), inputs]));
  return { ...extra, canvas: found };
}

/** The document with each link that the canvas draws led elsewhere, or gone where `change` gives null. Links of nodes stay. */
export function withWires(workflow: Workflow, change: (wire: Link) => Link | null): Workflow {
  const { canvas } = workflow.extra;
  if (!isObject(canvas)) return workflow;
  function changed(value: Json): Json | null {
    const link = readLink(value);
    const next = link && change(link);
    if (!link || next === link) return value;
    return next && [next.source, next.output];
  }
  function from(item: Json): Json {
    if (!isObject(item) || item["from"] === undefined) return item;
    const next = changed(item["from"]);
    if (next === item["from"]) return item;
    const { from: _, ...rest } = item;
    return next === null ? rest : { ...rest, from: next };
  }
  const found: Record<string, Json> = { ...canvas };
  if (Array.isArray(canvas["reroutes"])) found["reroutes"] = (canvas["reroutes"] as readonly Json[]).map(from);
  if (Array.isArray(canvas["subgraphs"]))
    found["subgraphs"] = (canvas["subgraphs"] as readonly Json[]).map((item) => {
      if (!isObject(item) || !Array.isArray(item["outputs"])) return item;
      const outputs = (item["outputs"] as readonly Json[]).map(from);
      return outputs.every((output, index) => output === (item["outputs"] as readonly Json[])[index]) ? item : { ...item, outputs };
    });
  if (isObject(canvas["via"])) {
    const via: Record<string, Json> = {};
    for (const [target, inputs] of Object.entries(canvas["via"])) {
      if (!isObject(inputs)) {
        via[target] = inputs;
        continue;
      }
      const kept = Object.entries(inputs).flatMap(([input, value]) => {
        const next = changed(value);
        return next === null ? [] : [[input, next] as const];
      });
      if (kept.length) via[target] = Object.fromEntries(kept);
    }
    found["via"] = via;
  }
  return { ...workflow, extra: { ...workflow.extra, canvas: found } };
}
