import { ReactFlowProvider } from "@xyflow/react";
import { useEffect, useState } from "react";
import { api, ServerError } from "../api/client";
import { readTypes } from "../model/types";
import { setTypes } from "../state/document";
import { FIRST_EXAMPLE, openExample, openLink } from "../state/files";
import { follow } from "../state/run";
import { restore } from "../state/tabs";
import { onSavedElsewhere } from "../state/saved";
import { useUi } from "../state/ui";
import { t } from "../strings";
import { AppView } from "./app/AppView";
import { Canvas } from "./canvas/Canvas";
import { useKeptFocus } from "./focus";
import { ConflictDialog } from "./ConflictDialog";
import { Help } from "./Help";
import { Panels } from "./panels/Panels";
import { SearchBox } from "./SearchBox";
import { useShortcuts } from "./shortcuts";
import { LinkDialog } from "./LinkDialog";
import { TabStrip } from "./TabStrip";
import { TopBar } from "./TopBar";
import { Viewer } from "./viewer/Viewer";

const RETRY = 1500;

export function App() {
  const [state, setState] = useState<"loading" | "unreachable" | "ready">("loading");
  useTheme();
  useEffect(() => {
    let over = false;
    let leave = () => {};
    async function begin(): Promise<void> {
      for (;;) {
        try {
          setTypes(readTypes(await api.objectInfo()));
          if (over) return;
          const { session, restored } = await restore();
          leave = follow(session);
          if (!restored) await openExample(FIRST_EXAMPLE);
          await openLink();
          setState("ready");
          return;
        } catch (error) {
          if (!(error instanceof ServerError)) throw error;
          if (over) return;
          setState("unreachable");
          await new Promise((resolve) => setTimeout(resolve, RETRY));
        }
      }
    }
    void begin();
    const open = () => void openLink();
    addEventListener("hashchange", open);
    return () => {
      removeEventListener("hashchange", open);
      over = true;
      leave();
    };
  }, []);
  if (state !== "ready")
    return (
      <main className="splash" aria-live="polite">
        {t(state === "loading" ? "app.loading" : "app.unreachable")}
      </main>
    );
  return (
    <ReactFlowProvider>
      <Editor />
    </ReactFlowProvider>
  );
}

function Editor() {
  useEffect(() => onSavedElsewhere((name) => useUi.getState().tell(t("saved.otherTab", { name }))), []);
  useShortcuts();
  useKeptFocus();
  const app = useUi((ui) => ui.app);
  const online = useUi((ui) => ui.online);
  return (
    <div className="editor">
      <TopBar />
      <TabStrip />
      {!online && (
        <div className="banner" role="status">
          {t("app.offline")}
        </div>
      )}
      <div className="work">
        {app ? <AppView /> : <Canvas />}
        <Panels />
      </div>
      <SearchBox />
      <Viewer />
      <Help />
      <LinkDialog />
      <ConflictDialog />
      <Toast />
    </div>
  );
}

function Toast() {
  const message = useUi((ui) => ui.message);
  const offer = useUi((ui) => ui.offer);
  useEffect(() => {
    if (message === null) return;
    const timer = setTimeout(() => useUi.getState().tell(null), 6000);
    return () => clearTimeout(timer);
  }, [message, offer]);
  return (
    <div className="toasts" role="status" aria-live="polite">
      {message !== null && (
        <div className="toast">
          {message}
          {offer && (
            <button
              className="offer"
              onClick={() => {
                useUi.getState().tell(null);
                offer.run();
              }}
            >
              {offer.label}
            </button>
          )}
          <button className="plain" onClick={() => useUi.getState().tell(null)} aria-label={t("toast.close")}>
            ×
          </button>
        </div>
      )}
    </div>
  );
}

function useTheme(): void {
  const theme = useUi((ui) => ui.theme);
  useEffect(() => {
    if (theme === "system") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = theme;
  }, [theme]);
}
