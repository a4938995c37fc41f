/** What a run says of a node, or of a sub-graph, on the canvas. */

import { useEffect, useState } from "react";
import { api } from "../../api/client";
import { isActive, type NodeRun, type Problem } from "../../model/run";
import type { InputType } from "../../model/types";
import { BYPASSED, MUTED } from "../../model/workflow";
import { useRun } from "../../state/run";
import { useUi } from "../../state/ui";
import { t } from "../../strings";
import { spentText } from "../times";

/** What a node that does not run is called. */
export const MODES = { [MUTED]: "muted", [BYPASSED]: "bypassed" } as const;

export function Badge({ run }: { run: NodeRun }) {
  if (run.state === "cached" || run.state === "skipped") return <span className="badge">{t(`node.${run.state}`)}</span>;
  if (run.state === "running")
    return <span className="badge">{run.max > 1 ? t("node.step", { value: run.value, max: run.max }) : t("node.running")}</span>;
  if (run.state === "done" && run.began !== undefined && run.ended !== undefined)
    return <span className="badge">{spentText(run.ended - run.began)}</span>;
  return null;
}

/** How long a node has been at work, once that is a second. */
export function Spent({ began }: { began: number }) {
  const [now, setNow] = useState(began);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 500);
    return () => clearInterval(timer);
  }, []);
  const seconds = Math.floor((now - began) / 1000);
  return seconds > 0 && <span className="spent">{t("node.seconds", { seconds })}</span>;
}

export function Progress({ run }: { run: NodeRun }) {
  const known = run.max > 1;
  const part = known ? run.value / run.max : 1;
  return (
    <i
      className="progress"
      role="progressbar"
      aria-label={t("node.running")}
      aria-valuemin={0}
      aria-valuemax={run.max}
      {...(known && { "aria-valuenow": run.value })}
      data-unknown={!known || undefined}
      style={{ transform: `scaleX(${part})` }}
    />
  );
}

export function Picture({ id, title, run }: { id: string; title: string; run: NodeRun | undefined }) {
  const preview = useRun((state) => (isActive(state) ? state.previews[id] : undefined));
  const image = run?.images?.at(-1);
  if (preview !== undefined && run?.state === "running")
    return <img className="shown" src={preview} alt={t("node.preview", { title })} draggable={false} />;
  if (!image) return null;
  return (
    <button className="plain nodrag" onClick={() => useUi.setState({ viewer: image })} aria-label={t("node.result", { title })}>
      <img className="shown" src={api.view(image)} alt={t("node.result", { title })} draggable={false} />
    </button>
  );
}

/** What is wrong, on the node itself; where it names an input, that row is marked as well. */
export function Troubles({ problems, inputs }: { problems: readonly Problem[]; inputs: readonly InputType[] }) {
  if (!problems.length) return null;
  return (
    <ul className="troubles">
      {problems.map((problem, index) => (
        <li key={index} data-severity={problem.severity}>
          {inputs.some((input) => input.name === problem.input) && <b>{problem.input}: </b>}
          {problem.message} {problem.hint}
        </li>
      ))}
    </ul>
  );
}
