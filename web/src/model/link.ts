/** A text packed into the part of an address behind "#", which no server gets to see. */

const KEY = "#workflow=";
/** Letters that a link may unpack to: it comes from a stranger, and a few bytes can stand for gigabytes. */
const MOST = 32 * 2 ** 20;

/** A link that does not hold what it should. */
export class BrokenLink extends Error {}

export const hashOf = (packed: string): string => KEY + packed;

export function packedIn(hash: string): string | null {
  return hash.startsWith(KEY) ? hash.slice(KEY.length) : null;
}

/** The text, deflated, in letters that an address may have. */
export async function pack(text: string): Promise<string> {
  const stream = new Blob([text]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  let letters = "";
  for (const byte of bytes) letters += String.fromCharCode(byte);
  return btoa(letters).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

/** What `pack` packed. Throws BrokenLink. */
export async function unpack(packed: string): Promise<string> {
  try {
    const letters = atob(packed.replace(/-/g, "+").replace(/_/g, "/"));
    const bytes = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
    const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
    const decoder = new TextDecoder("utf-8", { fatal: true });
    let text = "";
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      text += decoder.decode(part.value, { stream: true });
      if (text.length > MOST) throw new BrokenLink("what it carries is too large.");
    }
    return text + decoder.decode();
  } catch (error) {
    if (error instanceof BrokenLink) throw error;
    throw new BrokenLink("it is damaged: a part of it may be missing.");
  }
}
