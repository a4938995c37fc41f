import { useCallback, useState } from "react";
import { api, ServerError, type JobItem } from "../../api/client";
import { openJob } from "../../state/files";
import { useRun } from "../../state/run";
import { useUi } from "../../state/ui";
import { t } from "../../strings";
import { Icon } from "../icons";
import { ago, spentText } from "../times";
import { useFresh } from "./fresh";

const PAGE = 60;

/** Runs that ended, the newest first, with their pictures. Opening one brings its workflow back, with what it made. */
export function HistoryPanel() {
  const [most, setMost] = useState(PAGE);
  const [sure, setSure] = useState(false);
  const load = useCallback(() => api.jobs("completed,failed,cancelled", "desc", most), [most]);
  const { data, error, reload } = useFresh(load);
  const shown = useRun((run) => run.job);
  if (error !== null || data?.length === 0)
    return (
      <div className="empty">
        <Icon name="clock" />
        <p>{error ?? t("history.none")}</p>
      </div>
    );
  if (!data) return null;
  const act = (action: Promise<unknown>) => {
    action.then(reload, (reason: unknown) => {
      if (!(reason instanceof ServerError)) throw reason;
      useUi.getState().tell(reason.message);
    });
  };
  return (
    <div className="lists">
      <ol className="history" aria-label={t("panel.history")}>
        {data.map((job) => (
          <Entry key={job.id} job={job} shown={job.id === shown} forget={() => act(api.forget(job.id))} />
        ))}
      </ol>
      <div className="tools">
        {data.length === most && (
          <button className="button" onClick={() => setMost(most + PAGE)}>
            {t("history.more")}
          </button>
        )}
        <button className="button" onClick={() => (sure ? act(api.clearHistory()) : setSure(true))} onBlur={() => setSure(false)}>
          <Icon name="trash" /> {sure ? t("history.sure", { count: data.length }) : t("history.clear")}
        </button>
      </div>
    </div>
  );
}

function Entry({ job, shown, forget }: { job: JobItem; shown: boolean; forget: () => void }) {
  const title = job.title || t("bar.untitled");
  const time = job.ended ?? job.created;
  const spent = job.started !== null && job.ended !== null ? spentText(job.ended - job.started) : "";
  return (
    <li data-status={job.status} data-shown={shown || undefined}>
      <button className="open" onClick={() => void openJob(job.id)} aria-label={t("history.open", { title })} title={t("history.open", { title })}>
        {job.picture ? (
          <img src={api.view(job.picture, true)} alt="" loading="lazy" decoding="async" />
        ) : (
          <span className="none">
            <Icon name={job.status === "failed" ? "alert" : "image"} />
          </span>
        )}
      </button>
      <span className="what">
        <b title={title}>{title}</b>
        <time dateTime={new Date(time).toISOString()} title={new Date(time).toLocaleString()}>
          {[ago(time, Date.now()), spent].filter(Boolean).join(" · ")}
        </time>
        {job.status !== "completed" && <span className="ending">{job.problem ?? t(job.status === "failed" ? "run.failed" : "run.cancelled")}</span>}
      </span>
      <span className="acts">
        {job.picture && (
          <button
            className="plain"
            onClick={() => useUi.setState({ viewer: job.picture })}
            aria-label={t("result.open", { name: job.picture.filename })}
            title={t("result.open", { name: job.picture.filename })}
          >
            <Icon name="expand" />
          </button>
        )}
        <button className="plain" onClick={forget} aria-label={t("history.forget", { title })} title={t("history.forget", { title })}>
          <Icon name="trash" />
        </button>
      </span>
    </li>
  );
}
