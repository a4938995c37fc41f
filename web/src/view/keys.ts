/** Keys as they are printed on the keyboard at hand. */

const MAC = /Mac|iP(hone|ad)/.test(navigator.platform);
const NAMES: Record<string, string> = { mod: MAC ? "⌘" : "Ctrl", alt: MAC ? "⌥" : "Alt", shift: "Shift", enter: "Enter", delete: "Del" };

export function keyNames(keys: string): string[] {
  return keys.split("+").map((key) => NAMES[key] ?? key.charAt(0).toUpperCase() + key.slice(1));
}
