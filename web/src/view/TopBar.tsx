import { useEffect, useState, type MouseEvent } from "react";
import { useStore } from "zustand";
import { api, ServerError, type Example } from "../api/client";
import { setTitle } from "../model/commands";
import { isActive } from "../model/run";
import { setAuto } from "../state/auto";
import { edit, redo, undo, useDocument } from "../state/document";
import { copyLink, download, openExample, openFile, openNew, openSaved, save } from "../state/files";
import { cancel, start, useRun } from "../state/run";
import { openSearch, toggleApp, useUi, type Theme } from "../state/ui";
import { t } from "../strings";
import { Icon, type IconName } from "./icons";
import { keyNames } from "./keys";
import { nodeTitle } from "./titles";

export function TopBar() {
  const title = useDocument((state) => state.workflow.title);
  return (
    <header className="bar" aria-label={t("bar.label")}>
      <h1 className="wordmark">{t("app.name")}</h1>
      <FileMenu />
      <input
        className="title"
        value={title}
        placeholder={t("bar.untitled")}
        aria-label={t("bar.title")}
        onChange={(event) => edit(setTitle(event.target.value), { merge: "title" })}
      />
      <History />
      <AddNode />
      <span className="space" />
      <Status />
      <AppSwitch />
      <ThemeSwitch />
      <button className="plain" onClick={() => useUi.setState({ help: true })} title={t("bar.shortcuts")} aria-label={t("bar.shortcuts")}>
        <Icon name="help" />
      </button>
      <RunButton />
    </header>
  );
}

function AddNode() {
  const app = useUi((ui) => ui.app);
  if (app) return null;
  return (
    <button className="button" onClick={openSearch} aria-label={t("search.label")} title={t("bar.addHint")}>
      <Icon name="plus" /> <span className="words">{t("search.label")}</span>
    </button>
  );
}

function AppSwitch() {
  const app = useUi((ui) => ui.app);
  return (
    <button className="plain" aria-pressed={app} onClick={toggleApp} title={t("bar.appHint")} aria-label={t("bar.app")}>
      <Icon name="form" /> <span className="words">{t("bar.app")}</span>
    </button>
  );
}

function RunButton() {
  const active = useRun(isActive);
  const auto = useUi((ui) => ui.auto);
  return (
    <>
      <button className="plain" aria-pressed={auto} onClick={() => setAuto(!auto)} title={t("bar.autoHint")} aria-label={t("bar.auto")}>
        <Icon name="bolt" /> <span className="words">{t("bar.auto")}</span>
      </button>
      {active && (
        <button className="button cancel" onClick={() => void cancel()} aria-label={t("bar.cancel")}>
          <Icon name="stop" /> <span className="words">{t("bar.cancel")}</span>
        </button>
      )}
      <button className="button primary" onClick={() => void start()} title={t("bar.runHint", { keys: keyNames("mod+enter").join("+") })}>
        <Icon name="play" /> {t("bar.run")}
      </button>
    </>
  );
}

/** What the run is at, in words; a bar below the header says how far. */
function Status() {
  const text = useRun((run) => {
    if (run.status === "sending") return t("run.sending");
    if (run.status === "queued") return t("run.queued", { remaining: run.remaining });
    if (run.status === "running") {
      const id = Object.keys(run.nodes).find((node) => run.nodes[node]?.state === "running");
      return id === undefined ? t("run.sending") : t("run.running", { title: nodeTitle(id) });
    }
    if (run.status === "success") {
      const ran = Object.values(run.nodes).some((node) => node.state === "done" && node.began !== undefined);
      return ran ? t("run.success", { seconds: ((run.ended - run.began) / 1000).toFixed(1) }) : t("run.cached");
    }
    if (run.status === "failed") return t("run.failed");
    return run.status === "cancelled" ? t("run.cancelled") : "";
  });
  const status = useRun((run) => run.status);
  const more = useRun((run) => run.waiting.length);
  return (
    <span className="status" role="status" data-status={status}>
      {more ? `${text} · ${t("run.more", { count: more })}` : text}
    </span>
  );
}

function History() {
  const past = useStore(useDocument.temporal, (state) => state.pastStates.length);
  const future = useStore(useDocument.temporal, (state) => state.futureStates.length);
  return (
    <>
      <button className="plain" onClick={undo} disabled={!past} title={t("bar.undo")} aria-label={t("bar.undo")}>
        <Icon name="undo" />
      </button>
      <button className="plain" onClick={redo} disabled={!future} title={t("bar.redo")} aria-label={t("bar.redo")}>
        <Icon name="redo" />
      </button>
    </>
  );
}

const THEMES: Record<Theme, { next: Theme; icon: IconName }> = {
  system: { next: "light", icon: "system" },
  light: { next: "dark", icon: "sun" },
  dark: { next: "system", icon: "moon" },
};

function ThemeSwitch() {
  const theme = useUi((ui) => ui.theme);
  const { next, icon } = THEMES[theme];
  const label = t("bar.theme", { theme: t(`theme.${theme}`) });
  return (
    <button className="plain" onClick={() => useUi.getState().setTheme(next)} title={label} aria-label={label}>
      <Icon name={icon} />
    </button>
  );
}

function FileMenu() {
  const [examples, setExamples] = useState<readonly Example[]>([]);
  const [saved, setSaved] = useState<readonly string[]>([]);
  const [opened, setOpened] = useState(0);
  useEffect(() => {
    if (!opened) return;
    Promise.all([api.examples(), api.workflows()]).then(
      ([found, names]) => {
        setExamples(found);
        setSaved(names);
      },
      (error: unknown) => {
        if (!(error instanceof ServerError)) throw error;
        useUi.getState().tell(error.message);
      },
    );
  }, [opened]);
  function open(event: MouseEvent): void {
    setOpened((count) => count + 1);
    const menu = document.getElementById("file-menu");
    if (menu) menu.style.left = `${event.currentTarget.getBoundingClientRect().left}px`;
  }
  const act = (action: () => void) => () => {
    document.getElementById("file-menu")?.hidePopover();
    action();
  };
  return (
    <>
      <button className="button" popoverTarget="file-menu" onClick={open}>
        {t("bar.file")} <Icon name="chevron" />
      </button>
      <nav id="file-menu" popover="auto" className="menu" aria-label={t("bar.file")}>
        <button onClick={act(openNew)}>{t("bar.new")}</button>
        <label className="item">
          {t("bar.fromDisk")}
          <input
            type="file"
            accept=".json,.png,.webp"
            className="hidden"
            onChange={(event) => {
              const file = event.target.files?.[0];
              event.target.value = "";
              if (file) act(() => void openFile(file))();
            }}
          />
        </label>
        <button onClick={act(() => void save())}>{t("bar.save")}</button>
        <hr />
        <button onClick={act(() => void download("document"))}>{t("bar.download")}</button>
        <button onClick={act(() => void download("ui"))}>{t("bar.downloadUi")}</button>
        <button onClick={act(() => void download("api"))}>{t("bar.downloadApi")}</button>
        <button onClick={act(() => void copyLink())}>{t("bar.link")}</button>
        {saved.length > 0 && (
          <>
            <hr />
            <h2>{t("bar.saved")}</h2>
          </>
        )}
        {saved.map((name) => (
          <button key={name} onClick={act(() => void openSaved(name))}>
            {name}
          </button>
        ))}
        <hr />
        <h2>{t("bar.examples")}</h2>
        {examples.map((example) => (
          <button key={example.name} onClick={act(() => void openExample(example.name))}>
            {example.title}
          </button>
        ))}
      </nav>
    </>
  );
}
