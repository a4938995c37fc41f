/** What copying writes and pasting reads: JSON text, the same that files hold, so any tab and any editor can take it. */

import { fragmentOf, isEmpty } from "../model/commands";
import { needsConversion, NotAWorkflow, readWorkflow, writeWorkflow } from "../model/document";
import { parse, stringify } from "../model/json";
import type { Workflow } from "../model/workflow";
import { api, ServerError } from "../api/client";
import { useDocument } from "./document";

/** The chosen nodes and items as text; null where there are none to copy. */
export function copied(ids: readonly string[]): string | null {
  const fragment = fragmentOf(useDocument.getState().workflow, ids);
  return isEmpty(fragment) ? null : stringify(writeWorkflow(fragment), 2);
}

/** The workflow that a text holds, in any format; null where it holds none. */
export async function readFragment(text: string): Promise<Workflow | null> {
  try {
    let data = parse(text);
    if (needsConversion(data)) data = (await api.convert(text)).workflow;
    const fragment = readWorkflow(data);
    return isEmpty(fragment) ? null : fragment;
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof NotAWorkflow || error instanceof ServerError) return null;
    throw error;
  }
}
