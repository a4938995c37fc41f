/** Colours of sockets and links by type: those that are met often have their own, others one made from the name. */

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
