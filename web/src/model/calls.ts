/** A saved workflow's call in the words of other programs. */

import { stringify, type Json, type JsonObject } from "./json";

/** A shell command that runs a saved workflow with these values. */
export function curlCall(origin: string, name: string, values: JsonObject): string {
  const lines = [`curl '${origin}/workflows/${encodeURIComponent(name).replace(/'/g, "%27")}/run'`, "-H 'Content-Type: application/json'"];
  return [...lines, `-d ${shellWord(stringify(values, 2))}`].join(" \\\n  ");
}

function shellWord(text: string): string {
  return `'${text.replace(/'/g, `'\\''`)}'`;
}

/** A Python program that runs a saved workflow with these values and keeps its pictures. */
export function pythonCall(origin: string, name: string, values: JsonObject): string {
  const given = Object.entries(values).map(([key, value]) => `    ${pythonValue(key)}: ${pythonValue(value)},`);
  return [
    'from nodegraph.client import Client  # pip install "nodegraph[server]"',
    "",
    `values = {${given.length ? `\n${given.join("\n")}\n` : ""}}`,
    `with Client(${pythonValue(origin)}) as client:`,
    `    job = client.wait(client.submit_saved(${pythonValue(name)}, values))`,
    "    print(job.status, [client.download(file, \".\") for file in job.files])",
  ].join("\n");
}

/** A literal of Python. Its text literals read what JSON's say. */
function pythonValue(value: Json): string {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "object") {
    if (Array.isArray(value)) return `[${(value as readonly Json[]).map(pythonValue).join(", ")}]`;
    return `{${Object.entries(value).map(([key, item]) => `${pythonValue(key)}: ${pythonValue(item)}`).join(", ")}}`;
  }
  return stringify(value);
}
