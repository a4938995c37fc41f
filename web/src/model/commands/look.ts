/** Commands on how things look. */

import { withItem } from "../items";
import { isObject, type JsonObject } from "../json";
import { without, withNode } from "../workflow";
import type { Command } from "./command";

/** A colour as ComfyUI writes it: a node's head and body, and a group's. */
export interface Look {
  readonly color: string;
  readonly bgcolor: string;
  readonly group: string;
}

const NAMES = ["color", "bgcolor"];

/** Colour nodes, notes, groups and the rest; null takes their colour away. */
export function colourItems(ids: Iterable<string>, look: Look | null): Command {
  const chosen = [...ids];
  const coloured = (data: JsonObject): JsonObject => (look ? { ...data, color: look.color, bgcolor: look.bgcolor } : without(data, NAMES));
  return (workflow) =>
    chosen.reduce((found, id) => {
      if (!(id in found.nodes))
        return withItem(found, id, ({ part, data }) => {
          const next = part === "groups" && look ? { ...data, color: look.group } : coloured(data);
          return data["color"] === next["color"] && data["bgcolor"] === next["bgcolor"] ? data : next;
        });
      return withNode(found, id, (node) => {
        // ComfyUI's format has it on the node; there is no such place in the API's, so it is with what only that format has.
        const old = isObject(node.meta["ui"]) ? node.meta["ui"] : {};
        const ui = coloured(old);
        if (old["color"] === ui["color"] && old["bgcolor"] === ui["bgcolor"]) return node;
        return { ...node, meta: Object.keys(ui).length ? { ...node.meta, ui } : without(node.meta, ["ui"]) };
      });
    }, workflow);
}
