/** Commands on links. */

import { withNode, without, type Link } from "../workflow";
import type { Command } from "./command";
import { connectable } from "../validation";

/** Feed an input, in place of what fed it. Nothing changes where the types do not fit or a cycle would come. */
export function connect(link: Link, target: string, input: string): Command {
  return (workflow, types) =>
    connectable(workflow, types, link, target, input)
      ? withNode(workflow, target, (node) => ({ ...node, links: { ...node.links, [input]: link } }))
      : workflow;
}

/** Cut the link into an input; its own value holds again. */
export function disconnect(target: string, input: string): Command {
  return (workflow) =>
    withNode(workflow, target, (node) => {
      const links = without(node.links, [input]);
      return links === node.links ? node : { ...node, links };
    });
}
