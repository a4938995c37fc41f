/** Node types as the server describes them: sockets, widgets, ranges. */

import { isObject, type Json, type JsonObject } from "./json";

export type WidgetKind = "integer" | "float" | "text" | "multiline" | "choice" | "boolean" | "image";

export interface InputType {
  readonly name: string;
  /** Socket type; `COMBO` for choices, several joined by commas where any of them fits. */
  readonly type: string;
  readonly required: boolean;
  /** Which widget edits its literals; null where only a link gives a value. */
  readonly widget: WidgetKind | null;
  readonly initial: Json;
  readonly min?: number | bigint;
  readonly max?: number | bigint;
  readonly step?: number;
  readonly options?: readonly string[];
  /** The value may change by itself after each run (seeds). */
  readonly control: boolean;
  readonly tooltip?: string;
}

export interface OutputType {
  readonly name: string;
  readonly type: string;
  readonly list: boolean;
}

export interface NodeType {
  readonly name: string;
  readonly title: string;
  readonly category: string;
  readonly description: string;
  readonly inputs: readonly InputType[];
  readonly outputs: readonly OutputType[];
  /** It shows or saves something: a run starts from such nodes. */
  readonly isOutput: boolean;
  readonly deprecated: boolean;
}

export type NodeTypes = ReadonlyMap<string, NodeType>;

/** The node types of an answer to GET /object_info; what is not well formed is left out. */
export function readTypes(data: Json): NodeTypes {
  const found = new Map<string, NodeType>();
  if (!isObject(data)) return found;
  for (const [name, item] of Object.entries(data)) if (isObject(item)) found.set(name, readType(name, item));
  return found;
}

function readType(name: string, data: JsonObject): NodeType {
  const inputs: InputType[] = [];
  for (const part of ["required", "optional"] as const) {
    const listed = isObject(data["input"]) ? data["input"][part] : undefined;
    if (!isObject(listed)) continue;
    for (const [input, spec] of Object.entries(listed)) inputs.push(readInput(input, spec, part === "required"));
  }
  const names = list(data["output_name"]);
  const lists = list(data["output_is_list"]);
  const outputs = list(data["output"]).map((type, index) => ({
    name: text(names[index]) || socketType(type),
    type: socketType(type),
    list: lists[index] === true,
  }));
  return {
    name,
    title: text(data["display_name"]) || name,
    category: text(data["category"]),
    description: text(data["description"]),
    inputs,
    outputs,
    isOutput: data["output_node"] === true,
    deprecated: data["deprecated"] === true,
  };
}

function readInput(name: string, spec: Json, required: boolean): InputType {
  const [kind, more] = list(spec);
  const facts = isObject(more) ? more : {};
  const type = socketType(kind ?? "*");
  const options = Array.isArray(kind) ? kind : Array.isArray(facts["options"]) ? facts["options"] : undefined;
  const choices = options?.map((option) => String(option));
  const widget = facts["forceInput"] === true ? null : widgetOf(type, facts);
  const min = facts["min"];
  const max = facts["max"];
  const step = facts["step"];
  return {
    name,
    type,
    required,
    widget,
    initial: facts["default"] ?? initial(widget, choices, min),
    ...(isNumber(min) && { min }),
    ...(isNumber(max) && { max }),
    ...(typeof step === "number" && { step }),
    ...(choices && { options: choices }),
    control:
      facts["control_after_generate"] === true || (type === "INT" && (name === "seed" || name === "noise_seed")),
    ...(typeof facts["tooltip"] === "string" && { tooltip: facts["tooltip"] }),
  };
}

function widgetOf(type: string, facts: JsonObject): WidgetKind | null {
  if (type === "INT") return "integer";
  if (type === "FLOAT") return "float";
  if (type === "BOOLEAN") return "boolean";
  if (type === "STRING") return facts["multiline"] === true ? "multiline" : "text";
  if (type === "COMBO") return facts["image_upload"] === true ? "image" : "choice";
  return null;
}

function initial(widget: WidgetKind | null, options: readonly string[] | undefined, min: Json | undefined): Json {
  if (widget === "integer" || widget === "float") return isNumber(min) && min > 0 ? min : 0;
  if (widget === "boolean") return false;
  if (widget === "choice" || widget === "image") return options?.[0] ?? "";
  return widget === null ? null : "";
}

function isNumber(value: Json | undefined): value is number | bigint {
  return typeof value === "number" || typeof value === "bigint";
}

function socketType(kind: Json): string {
  return typeof kind === "string" ? kind : "COMBO";
}

function list(value: Json | undefined): readonly Json[] {
  return Array.isArray(value) ? (value as readonly Json[]) : [];
}

function text(value: Json | undefined): string {
  return typeof value === "string" ? value : "";
}

/** Whether an output of type `source` may feed an input of type `target`: the engine's own rule. */
export function assignable(source: string, target: string): boolean {
  if (source === "*" || target === "*" || source === target) return true;
  if ((source === "COMBO" && target === "STRING") || (source === "STRING" && target === "COMBO")) return true;
  if (source.includes(",") || target.includes(","))
    return source.split(",").some((one) => target.split(",").some((other) => assignable(one, other)));
  return source === "INT" && target === "FLOAT";
}
