/** The inputs and outputs of a sub-graph: those that it says it has, and those that links across its edge make. */

import { itemOf } from "./items";
import { portName, type Port } from "./subgraphs";
import { behind, declared, INSIDE, lead, OUTSIDE, stepsOf, viaInputs, viaOf } from "./wires";
import type { Link, Workflow } from "./workflow";

/** One of them. As a port of the document it is the sub-graph and the input's name or the output's number, where it is declared. */
export interface BoxPort extends Port {
  /** Its number among those that the sub-graph says it has; null where only links make it. */
  readonly index: number | null;
  readonly name: string | null;
  readonly type: string | null;
  /** Inputs that it feeds: inside for an input, outside for an output. */
  readonly ends: readonly Port[];
}

interface BoxPorts {
  readonly inputs: readonly BoxPort[];
  readonly outputs: readonly BoxPort[];
}

type Open = BoxPort & { readonly ends: Port[] };
const known = new WeakMap<Workflow, Map<string, BoxPorts>>();

/** The ports of a sub-graph, the declared ones first, in their order. */
export function portsOf(workflow: Workflow, subgraph: string): BoxPorts {
  let all = known.get(workflow);
  if (!all) known.set(workflow, (all = new Map()));
  let found = all.get(subgraph);
  if (!found) all.set(subgraph, (found = read(workflow, subgraph)));
  return found;
}

/** The type of a sub-graph's input outside, or of its output inside, as a link's end; undefined for another end. */
export function portType(workflow: Workflow, { node, socket }: Port): string | undefined {
  const around = behind(workflow, node, OUTSIDE);
  if (around) return declared(around, "outputs")[Number(socket)]?.type;
  const frame = itemOf(workflow, node);
  return frame && declared(frame, "inputs").find(({ name }) => name === socket)?.type;
}

function read(workflow: Workflow, subgraph: string): BoxPorts {
  const frame = itemOf(workflow, subgraph);
  const inside = (id: string) => id.startsWith(`${subgraph}:`);
  const said = (side: "inputs" | "outputs") => (frame ? declared(frame, side) : []);
  const inputs: Open[] = said("inputs").map(({ name, type }, index) => ({ node: subgraph, socket: name, index, name, type, ends: [] }));
  const outputs: Open[] = said("outputs").map(({ name, type }, index) => ({ node: subgraph, socket: String(index), index, name, type, ends: [] }));
  const leads = said("outputs").map(({ from }) => lead(workflow, from));
  const more = new Map<string, Open>();
  const made: Open[] = [];
  for (const node of Object.values(workflow.nodes)) {
    const within = inside(node.id);
    for (const input of new Set([...Object.keys(node.links), ...viaInputs(workflow, node.id)])) {
      const end = { node: node.id, socket: input };
      const link = node.links[input];
      const crosses = link !== undefined && link.source in workflow.nodes && inside(link.source) !== within;
      const port = within ? passed(`${subgraph}:${INSIDE}`, inputs, end) : passed(subgraph, outputs, end);
      if (port) port.ends.push(end);
      else if (!crosses) continue;
      else if (within) made.push({ ...end, index: null, name: null, type: null, ends: [end] });
      else {
        const same = leads.findIndex((one) => one && !("value" in one) && one.source === link.source && one.output === link.output);
        (outputs[same] ?? undeclared(link)).ends.push(end);
      }
    }
  }

  /** The port that an input's link comes through on the canvas. */
  function passed(source: string, ports: readonly Open[], { node, socket }: Port): Open | undefined {
    for (const step of stepsOf(workflow, viaOf(workflow, node, socket))) if (step.source === source) return ports[step.output];
    return undefined;
  }

  function undeclared({ source, output }: Link): Open {
    const own = { node: source, socket: String(output) };
    const port = more.get(portName(own)) ?? { ...own, index: null, name: null, type: null, ends: [] };
    more.set(portName(own), port);
    return port;
  }

  // A link outside is known by the input's name: of two with one name, only the first can have any.
  const first = inputs.filter((port, index) => inputs.findIndex(({ name }) => name === port.name) === index);
  return { inputs: [...first, ...made], outputs: [...outputs, ...more.values()] };
}
