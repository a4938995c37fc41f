/** Node types by words, best first. */

import { assignable, type NodeType, type NodeTypes } from "./types";

/** What a new node would be connected to: an output that wants an input, or an input that wants an output. */
export interface Fitting {
  readonly type: string;
  readonly side: "source" | "target";
}

/** What most workflows begin with, in its order: before everything that is found no worse. */
const EVERYDAY = [
  "CheckpointLoaderSimple", "CLIPTextEncode", "EmptyLatentImage", "KSampler", "VAEDecode", "SaveImage", "PreviewImage", "LoadImage", "VAEEncode",
  "LoraLoader", "ControlNetLoader", "ControlNetApplyAdvanced", "KSamplerAdvanced",
];

/** The types whose name, title, category or description has every word of `query`; those that fit come first. */
export function searchTypes(types: NodeTypes, query: string, fitting?: Fitting, most = 60): NodeType[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const found: { type: NodeType; score: number }[] = [];
  for (const type of types.values()) {
    const fits = !fitting || fitsOn(type, fitting);
    if (fitting && !fits && !words.length) continue;
    const score = rank(type, words);
    if (score !== null) found.push({ type, score: score + (fitting && fits ? 1000 : 0) + everyday(type) - (type.deprecated ? 50 : 0) });
  }
  found.sort((one, other) => other.score - one.score || one.type.title.localeCompare(other.type.title));
  return found.slice(0, most).map((item) => item.type);
}

export function fitsOn(type: NodeType, fitting: Fitting): boolean {
  return fitting.side === "source"
    ? type.inputs.some((input) => assignable(fitting.type, input.type))
    : type.outputs.some((output) => assignable(output.type, fitting.type));
}

/** At most 50: less than a word at the beginning of a name counts more than within one. */
function everyday(type: NodeType): number {
  const place = EVERYDAY.indexOf(type.name);
  return place < 0 ? 0 : 50 - place;
}

function rank(type: NodeType, words: readonly string[]): number | null {
  const name = type.name.toLowerCase();
  const title = type.title.toLowerCase();
  const category = type.category.toLowerCase();
  const description = type.description.toLowerCase();
  let score = 0;
  for (const word of words) {
    if (title.startsWith(word) || name.startsWith(word)) score += 100;
    else if (title.includes(` ${word}`)) score += 60;
    else if (title.includes(word) || name.includes(word)) score += 40;
    else if (category.includes(word)) score += 10;
    else if (description.includes(word)) score += 5;
    else return null;
  }
  return score;
}
