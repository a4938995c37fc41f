/** Reads a file beside the page: one message in, a File; one out, its data or why it has none. */

import { NotAWorkflow } from "../model/document";
import type { Json } from "../model/json";
import { readBounded } from "../model/reading";

export type Answer = { readonly data: Json } | { readonly refused: string } | { readonly notJson: true };

addEventListener("message", (event: MessageEvent<File>) => void answer(event.data));

async function answer(file: File): Promise<void> {
  let found: Answer;
  try {
    found = { data: readBounded(await file.text()) };
  } catch (error) {
    if (error instanceof NotAWorkflow) found = { refused: error.message };
    else if (error instanceof SyntaxError) found = { notJson: true };
    else throw error;
  }
  postMessage(found);
}
