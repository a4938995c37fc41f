/** The parameters that a document declares: names that set one input or several. */

import { isObject, type Json, type JsonObject } from "./json";
import type { InputType, NodeTypes } from "./types";
import type { GraphNode, Workflow } from "./workflow";

export interface Place {
  readonly node: string;
  readonly input: string;
}

export interface Parameter {
  readonly name: string;
  readonly description: string;
  readonly places: readonly Place[];
}

/** What a parameter may be called: the server's own rule. */
export const PARAMETER_NAME = /^[A-Za-z_][A-Za-z0-9_-]{0,63}$/;

/** The declared parameters in the document's order. What is not well formed is left out. */
export function parametersOf(workflow: Workflow): Parameter[] {
  return Object.entries(workflow.parameters).flatMap(([name, declared]) => {
    const items = (Array.isArray(declared) ? (declared as readonly Json[]) : [declared]).filter(isObject);
    const places = items.flatMap((item) => {
      const { node, input } = item;
      const id = typeof node === "number" ? String(node) : node;
      return typeof id === "string" && typeof input === "string" ? [{ node: id, input }] : [];
    });
    const said = items.find((item) => typeof item["description"] === "string")?.["description"];
    return places.length ? [{ name, places, description: typeof said === "string" ? said : "" }] : [];
  });
}

/** What edits a parameter: the node and the input that it sets first; null where they are not there. */
export function widgetOf(workflow: Workflow, types: NodeTypes, parameter: Parameter): { node: GraphNode; input: InputType } | null {
  const place = parameter.places[0];
  const node = place && workflow.nodes[place.node];
  const input = node && types.get(node.type)?.inputs.find((item) => item.name === place.input);
  return node && input?.widget ? { node, input } : null;
}

/** The values that the declared parameters have now, by name. */
export function valuesOf(workflow: Workflow, types: NodeTypes): JsonObject {
  const found: Record<string, Json> = {};
  for (const parameter of parametersOf(workflow)) {
    const widget = widgetOf(workflow, types, parameter);
    if (widget) found[parameter.name] = widget.node.values[widget.input.name] ?? widget.input.initial;
  }
  return found;
}

/** A name for a parameter that sets this input: the input's, with the node's title where that is taken. */
export function parameterName(workflow: Workflow, input: string, title: string): string {
  const clean = (text: string) => text.toLowerCase().replace(/[^a-z0-9_-]+/g, "_").replace(/^_+|_+$/g, "");
  const taken = (name: string) => !name || name in workflow.parameters;
  const short = clean(input).slice(0, 60) || "value";
  if (!taken(short)) return short;
  const long = `${clean(title).slice(0, 30)}_${short}`.replace(/^_/, "");
  let name = long;
  for (let count = 2; taken(name); count++) name = `${long}_${count}`;
  return name;
}
