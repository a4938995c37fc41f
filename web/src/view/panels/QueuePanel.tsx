import { useEffect, useRef, useState, type KeyboardEvent, type PointerEvent } from "react";
import { api, ServerError, type JobItem } from "../../api/client";
import { movesFor, type Move } from "../../model/queue";
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

interface Dragged {
  readonly id: string;
  /** Where it would go, counted from the front. */
  readonly to: number;
}

/** What runs and what waits, in its order; to be moved by dragging, by buttons and by keys, cancelled, paused. */
export function QueuePanel() {
  const { data, error, reload } = useFresh(load);
  const now = useNow();
  const list = useRef<HTMLOListElement>(null);
  const [dragged, setDragged] = useState<Dragged | null>(null);
  const [moved, setMoved] = useState("");
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
  const move = (job: JobItem, to: number) => {
    const from = waiting.indexOf(job);
    const moves = movesFor(waiting, from, to);
    if (!moves.length) return;
    setMoved(t("queue.moved", { title: job.title || t("bar.untitled"), place: to + 1 }));
    act(inTurn(moves));
  };

  function press(event: KeyboardEvent<HTMLLIElement>, job: JobItem): void {
    const place = waiting.indexOf(job);
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (event.target !== event.currentTarget || event.altKey || event.ctrlKey || event.metaKey) return;
    if (step && !event.shiftKey) event.currentTarget.parentElement?.querySelectorAll<HTMLElement>("[data-job]")[place + step]?.focus();
    else if (step) move(job, place + step);
    else if (event.key === "Home" && event.shiftKey) move(job, 0);
    else if (event.key === "Delete" || event.key === "Backspace") act(cancel(job.id));
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function grab(event: PointerEvent<HTMLLIElement>, job: JobItem): void {
    const target = event.target as Element;
    // A finger moves the list, unless it takes hold of the number.
    if (event.button !== 0 || waiting.length < 2 || target.closest("button") || (event.pointerType === "touch" && !target.closest(".place"))) return;
    event.currentTarget.setPointerCapture(event.pointerId);
    setDragged({ id: job.id, to: waiting.indexOf(job) });
  }

  function drag(event: PointerEvent): void {
    if (!dragged) return;
    const others = Array.from(list.current?.querySelectorAll<HTMLElement>("[data-job]") ?? []).filter((item) => item.dataset["job"] !== dragged.id);
    const to = others.filter((item) => {
      const { top, height } = item.getBoundingClientRect();
      return top + height / 2 < event.clientY;
    }).length;
    if (to !== dragged.to) setDragged({ ...dragged, to });
  }

  function drop(job: JobItem): void {
    if (dragged) move(job, dragged.to);
    setDragged(null);
  }

  const from = waiting.findIndex((job) => job.id === dragged?.id);
  const others = waiting.filter((_, index) => index !== from);
  const mark = (job: JobItem) => {
    if (!dragged || dragged.to === from) return undefined;
    if (others[dragged.to] === job) return "above";
    return dragged.to === others.length && others.at(-1) === job ? "below" : undefined;
  };
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
      <p className="hidden" id="queue-keys">
        {t("queue.keys")}
      </p>
      <p className="hidden" role="status">
        {moved}
      </p>
      <ol className="jobs" aria-label={t("panel.queue")} ref={list}>
        {jobs.map((job) => {
          const place = waiting.indexOf(job);
          const title = job.title || t("bar.untitled");
          const waits = place >= 0 && {
            tabIndex: 0,
            "data-job": job.id,
            "aria-describedby": "queue-keys",
            "data-dragged": dragged?.id === job.id || undefined,
            "data-mark": mark(job),
            onKeyDown: (event: KeyboardEvent<HTMLLIElement>) => press(event, job),
            onPointerDown: (event: PointerEvent<HTMLLIElement>) => grab(event, job),
            onPointerMove: drag,
            onPointerUp: () => drop(job),
            onPointerCancel: () => setDragged(null),
          };
          return (
            <li key={job.id} data-status={job.status} aria-label={title} {...waits}>
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
                  <Button icon="up" label={t("queue.up", { title })} off={place === 0} act={() => move(job, place - 1)} />
                  <Button icon="down" label={t("queue.down", { title })} off={place === waiting.length - 1} act={() => move(job, place + 1)} />
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

async function inTurn(moves: readonly Move[]): Promise<void> {
  for (const { id, place } of moves) await api.move(id, place);
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
