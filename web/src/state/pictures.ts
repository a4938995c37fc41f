/** Pictures that are dropped, pasted or chosen: into the input folder, and into a node that loads them. */

import { addNode, all, setValue } from "../model/commands";
import type { NodeType } from "../model/types";
import { freeId, type Point } from "../model/workflow";
import { api, ServerError } from "../api/client";
import { t } from "../strings";
import { edit, useDocument } from "./document";
import { useUi } from "./ui";

const imageInput = (type: NodeType | undefined) => type?.inputs.find((input) => input.widget === "image")?.name;

/** The input of a node that takes a picture's name. */
export function imageInputOf(id: string): string | undefined {
  const { workflow, types } = useDocument.getState();
  return imageInput(types.get(workflow.nodes[id]?.type ?? ""));
}

/** Put a picture into the input folder and its name into an input of a node. */
export async function uploadInto(id: string, input: string, file: File): Promise<void> {
  const name = await upload(file);
  if (name !== null) edit(setValue(id, input, name));
}

/** A new node that loads a picture, at a place; its id. */
export async function addPicture(file: File, pos: Point): Promise<string | null> {
  const { types } = useDocument.getState();
  const type = types.get("LoadImage") ?? [...types.values()].find((item) => imageInput(item) !== undefined);
  const input = imageInput(type);
  if (!type || input === undefined) return null;
  const name = await upload(file);
  if (name === null) return null;
  const id = freeId(useDocument.getState().workflow);
  edit(all(addNode(type.name, pos, id), setValue(id, input, name)));
  return id;
}

async function upload(file: File): Promise<string | null> {
  try {
    return await api.upload(file);
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    useUi.getState().tell(t("upload.failed", { reason: error.message }));
    return null;
  }
}
