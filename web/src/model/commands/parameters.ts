/** Commands on declared parameters. */

import type { Json, JsonObject } from "../json";
import { PARAMETER_NAME, parametersOf, type Parameter } from "../parameters";
import { withNode, without, type Workflow } from "../workflow";
import type { Command } from "./command";

function written({ places, description }: Parameter): Json {
  const items: JsonObject[] = places.map(({ node, input }) => ({ node, input }));
  const [first, ...rest] = items;
  const told = { ...first, ...(description && { description }) };
  return rest.length ? [told, ...rest] : told;
}

/** Let a name set an input. Nothing changes where the name is taken or is none. */
export function declare(name: string, node: string, input: string, description = ""): Command {
  return (workflow) =>
    name in workflow.parameters || !PARAMETER_NAME.test(name)
      ? workflow
      : withParameters(workflow, { ...workflow.parameters, [name]: written({ name, description, places: [{ node, input }] }) });
}

export function undeclare(name: string): Command {
  return (workflow) => withParameters(workflow, without(workflow.parameters, [name]));
}

/** Call a parameter something else, in its place. Nothing changes where the name is taken or is none. */
export function rename(name: string, to: string): Command {
  return (workflow) => {
    if (!(name in workflow.parameters) || to in workflow.parameters || !PARAMETER_NAME.test(to)) return workflow;
    const entries = Object.entries(workflow.parameters).map(([key, value]) => [key === name ? to : key, value] as const);
    return withParameters(workflow, Object.fromEntries(entries));
  };
}

export function describe(name: string, description: string): Command {
  return (workflow) => {
    const known = parametersOf(workflow).find((parameter) => parameter.name === name);
    if (!known || known.description === description) return workflow;
    return withParameters(workflow, { ...workflow.parameters, [name]: written({ ...known, description }) });
  };
}

/** Set every input that a parameter sets. */
export function setParameter(name: string, value: Json): Command {
  return (workflow) => {
    const known = parametersOf(workflow).find((parameter) => parameter.name === name);
    return (known?.places ?? []).reduce(
      (found, { node, input }) => withNode(found, node, (old) => ({ ...old, values: { ...old.values, [input]: value } })),
      workflow,
    );
  };
}

function withParameters(workflow: Workflow, parameters: JsonObject): Workflow {
  return parameters === workflow.parameters ? workflow : { ...workflow, parameters };
}
