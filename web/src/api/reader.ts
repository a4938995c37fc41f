/** Files read in a worker, so that a large one does not hold the page. */

import { NotAWorkflow } from "../model/document";
import type { Json } from "../model/json";
import { MAX_BYTES } from "../model/reading";
import { t } from "../strings";
import type { Answer } from "./reader.worker";

/** The data of a JSON file. Throws SyntaxError and NotAWorkflow. */
export function readJsonFile(file: File): Promise<Json> {
  if (file.size > MAX_BYTES) {
    const size = (file.size / 2 ** 20).toFixed(0);
    return Promise.reject(new NotAWorkflow(t("open.tooLarge", { size, most: MAX_BYTES / 2 ** 20 })));
  }
  const worker = new Worker(new URL("./reader.worker.ts", import.meta.url), { type: "module" });
  return new Promise<Json>((resolve, reject) => {
    worker.onmessage = ({ data }: MessageEvent<Answer>) => {
      if ("data" in data) resolve(data.data);
      else reject("refused" in data ? new NotAWorkflow(data.refused) : new SyntaxError());
    };
    worker.onerror = () => reject(new NotAWorkflow(t("open.gaveUp")));
    worker.postMessage(file);
  }).finally(() => worker.terminate());
}
