import { useEffect, useState } from "react";
import { api, ServerError, type JobItem } from "../../api/client";
import { cancel, useRun } from "../../state/run";
import { useUi } from "../../state/ui";
import { t } from "../../strings";
import { Icon } from "../icons";
import { ago } from "../times";
import { useFresh } from "./fresh";

const MOST = 500;

interface Queue {
  readonly jobs: readonly JobItem[];
  readonly paused: boolean;
}

async function load(): Promise<Queue> {
  const [jobs, paused] = await Promise.all([api.jobs("in_progress,pending", "asc", MOST), api.paused()]);
  const running = jobs.filter((job) => job.status === "in_progress");
  // They come by the time of their posting; a stable sort keeps that among those of one place.
  const waiting = jobs.filter((job) => job.status === "pending").sort((one, other) => one.priority - other.priority);
  return { jobs: [...running, ...waiting], paused };
}

export const useQueueCount = (): number => useRun((run) => run.remaining);

/** What runs and what waits, in its order; to be moved, cancelled, paused. */
export function QueuePanel() {
  const { data, error, reload } = useFresh(load);
  const now = useNow();
  if (error !== null) return <Nothing text={error} />;
  if (!data) return null;
  const { jobs, paused } = data;
  const act = (action: Promise<unknown>) => {
    action.then(reload, (reason: unknown) => {
      if (!(reason instanceof ServerError)) throw reason;
      useUi.getState().tell(reason.message);
      reload();
    });
  };
  const waiting = jobs.filter((job) => job.status === "pending");
  return (
    <div className="lists">
      <div className="tools">
        <button className="button" aria-pressed={paused} onClick={() => act(api.pause(!paused))}>
          <Icon name={paused ? "play" : "pause"} /> {t(paused ? "queue.resume" : "queue.pause")}
        </button>
        <button className="button" disabled={!waiting.length} onClick={() => act(api.clearQueue())}>
          <Icon name="trash" /> {t("queue.clear")}
        </button>
      </div>
      {paused && <p className="notice">{t("queue.paused")}</p>}
      {!jobs.length && <Nothing text={t("queue.none")} />}
      <ol className="jobs" aria-label={t("panel.queue")}>
        {jobs.map((job) => {
          const place = waiting.indexOf(job);
          const title = job.title || t("bar.untitled");
          const move = (to: number) => act(api.move(job.id, placeAt(waiting, place, to)));
          return (
            <li key={job.id} data-status={job.status} aria-label={title}>
              <span className="place">{place < 0 ? <i className="pulse" /> : place + 1}</span>
              <span className="what">
                <b>{title}</b>
                <span>
                  {place < 0
                    ? t("queue.running", { time: ago(job.started ?? job.created, now) })
                    : t("queue.waiting", { time: ago(job.created, now) })}
                </span>
              </span>
              {place >= 0 && waiting.length > 1 && (
                <>
                  <Button icon="up" label={t("queue.up", { title })} off={place === 0} act={() => move(place - 1)} />
                  <Button icon="down" label={t("queue.down", { title })} off={place === waiting.length - 1} act={() => move(place + 1)} />
                </>
              )}
              <Button icon="close" label={t("queue.cancel", { title })} act={() => act(cancel(job.id))} />
            </li>
          );
        })}
      </ol>
    </div>
  );
}

/** Where a job goes in the list, as a number between those of its new neighbours. */
function placeAt(waiting: readonly JobItem[], from: number, to: number): { front: true } | { number: number } {
  if (to === 0) return { front: true };
  const others = waiting.filter((_, index) => index !== from);
  const before = others[to - 1]?.priority ?? 0;
  const after = others[to]?.priority;
  return { number: after === undefined ? before + 1 : (before + after) / 2 };
}

interface ButtonProps {
  readonly icon: "up" | "down" | "close";
  readonly label: string;
  readonly off?: boolean;
  readonly act: () => void;
}

function Button({ icon, label, off = false, act }: ButtonProps) {
  return (
    <button className="plain" aria-label={label} title={label} disabled={off} onClick={act}>
      <Icon name={icon} />
    </button>
  );
}

function Nothing({ text }: { text: string }) {
  return (
    <div className="empty">
      <Icon name="queue" />
      <p>{text}</p>
    </div>
  );
}

/** The time, a little later every second. */
function useNow(): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return now;
}
