import { expect, test } from "vitest";
import { readMessage, readPreview } from "../../src/api/socket";

function frame(event: number, about: string, image: number[]): ArrayBuffer {
  const text = new TextEncoder().encode(about);
  const found = new Uint8Array(8 + text.length + image.length);
  const view = new DataView(found.buffer);
  view.setUint32(0, event);
  view.setUint32(4, text.length);
  found.set(text, 8);
  found.set(image, 8 + text.length);
  return found.buffer;
}

test("a preview is a picture with its node and job", async () => {
  const found = readPreview(frame(4, '{"node_id":"5.1","display_node_id":"5","prompt_id":"j","image_type":"image/png"}', [1, 2, 3]));
  expect(found).toMatchObject({ node: "5", job: "j" });
  expect(found?.image.type).toBe("image/png");
  expect(new Uint8Array(await (found as { image: Blob }).image.arrayBuffer())).toEqual(new Uint8Array([1, 2, 3]));
});

test("other frames and short ones are passed over", () => {
  expect(readPreview(frame(1, "{}", [1]))).toBeNull();
  expect(readPreview(new ArrayBuffer(3))).toBeNull();
  expect(readPreview(frame(4, "{}", []).slice(0, 9))).toBeNull();
});

test("a message is a type with data", () => {
  expect(readMessage('{"type":"status","data":{"a":1}}')).toEqual({ type: "status", data: { a: 1 } });
  expect(readMessage("[]")).toBeNull();
});
