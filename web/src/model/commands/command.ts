/** A command: a change of the document as a function of it. The same document out means that nothing changed. */

import type { NodeTypes } from "../types";
import type { Workflow } from "../workflow";

export type Command = (workflow: Workflow, types: NodeTypes) => Workflow;

/** Several commands as one: one step of undo. */
export function all(...commands: readonly Command[]): Command {
  return (workflow, types) => commands.reduce((found, command) => command(found, types), workflow);
}
