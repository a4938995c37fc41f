/** The websocket: messages and previews in, and a new connection whenever one is lost. */

import { isObject, parse } from "../model/json";
import type { Message } from "../model/run";

export interface Preview {
  readonly node: string;
  readonly job: string;
  readonly image: Blob;
}

export interface Listener {
  message(message: Message): void;
  preview(preview: Preview): void;
  /** The connection stands, or is lost and being made again. */
  connected(up: boolean): void;
}

const FEATURES = { supports_preview_metadata: true, supports_progress_deltas: true };
const PREVIEW_WITH_METADATA = 4;
const LONGEST_WAIT = 5000;

/** Connect and stay connected; the function that ends it. */
export function listen(client: string, listener: Listener): () => void {
  let socket: WebSocket | null = null;
  let timer = 0;
  let wait = 250;
  let over = false;

  function open(): void {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    socket = new WebSocket(`${scheme}://${location.host}/api/ws?clientId=${encodeURIComponent(client)}`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      wait = 250;
      socket?.send(JSON.stringify({ type: "feature_flags", data: FEATURES }));
      listener.connected(true);
    };
    socket.onmessage = (event: MessageEvent<string | ArrayBuffer>) => {
      if (typeof event.data === "string") {
        const message = readMessage(event.data);
        if (message) listener.message(message);
      } else {
        const preview = readPreview(event.data);
        if (preview) listener.preview(preview);
      }
    };
    socket.onclose = () => {
      if (over) return;
      listener.connected(false);
      timer = window.setTimeout(open, wait);
      wait = Math.min(wait * 2, LONGEST_WAIT);
    };
  }

  open();
  return () => {
    over = true;
    clearTimeout(timer);
    socket?.close();
  };
}

export function readMessage(text: string): Message | null {
  const data = parse(text);
  if (!isObject(data) || typeof data["type"] !== "string") return null;
  return { type: data["type"], data: isObject(data["data"]) ? data["data"] : {} };
}

/** A binary frame with metadata: event, length of the JSON, JSON, picture. Null for other frames. */
export function readPreview(frame: ArrayBuffer): Preview | null {
  const view = new DataView(frame);
  if (frame.byteLength < 8 || view.getUint32(0) !== PREVIEW_WITH_METADATA) return null;
  const length = view.getUint32(4);
  if (8 + length > frame.byteLength) return null;
  const about = parse(new TextDecoder().decode(new Uint8Array(frame, 8, length)));
  if (!isObject(about)) return null;
  return {
    node: String(about["display_node_id"] ?? about["node_id"]),
    job: String(about["prompt_id"]),
    image: new Blob([new Uint8Array(frame, 8 + length)], { type: String(about["image_type"] ?? "image/jpeg") }),
  };
}

/** An id that nobody else has. `crypto.randomUUID` is there on secure origins only, and a LAN address is none. */
export function freshId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
