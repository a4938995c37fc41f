/** Colours of sockets and links by type: those that are met often have their own, others one made from the name. */

import type { CSSProperties } from "react";
import type { Look } from "../model/commands";
import type { StringKey } from "../strings";

const KNOWN = new Set([
  "MODEL", "CLIP", "VAE", "CONDITIONING", "LATENT", "IMAGE", "MASK", "SIGMAS", "SAMPLER", "NOISE", "GUIDER", "INT", "FLOAT",
  "STRING", "BOOLEAN", "COMBO", "CONTROL_NET", "CLIP_VISION",
]);

export function colourOf(type: string): string {
  if (KNOWN.has(type)) return `var(--type-${type.toLowerCase()})`;
  if (type === "*") return "var(--quiet)";
  let hash = 0;
  for (const letter of type) hash = (hash * 31 + letter.charCodeAt(0)) % 360;
  return `oklch(var(--type-light) 0.12 ${hash})`;
}

/** The colours that nodes, notes and groups are offered, as ComfyUI has them; files may have any. */
export const COLOURS: readonly ({ readonly label: StringKey } & Look)[] = [
  { label: "colour.blue", color: "#223", bgcolor: "#335", group: "#3f789e" },
  { label: "colour.green", color: "#232", bgcolor: "#353", group: "#4b8a4f" },
  { label: "colour.yellow", color: "#432", bgcolor: "#653", group: "#b58b2a" },
  { label: "colour.red", color: "#322", bgcolor: "#533", group: "#a1484b" },
  { label: "colour.purple", color: "#323", bgcolor: "#535", group: "#7d5ba6" },
  { label: "colour.grey", color: "#222", bgcolor: "#000", group: "#6b7280" },
];

/** A colour of a file; null where it is none that may go into a style. */
export function safeColour(value: unknown): string | null {
  return typeof value === "string" && /^#[0-9a-f]{3,8}$/i.test(value) ? value : null;
}

/** What an element takes to be tinted: the style sheet keeps the hue, and a lightness on which text is read in either theme. */
export function tintOf(data: unknown): { "data-tint"?: true; style?: CSSProperties } {
  const { color, bgcolor } = (typeof data === "object" && data ? data : {}) as { color?: unknown; bgcolor?: unknown };
  const tint = safeColour(bgcolor) ?? safeColour(color);
  return tint === null ? {} : { "data-tint": true, style: { "--tint": tint } as CSSProperties };
}
