import { ReactFlowProvider } from "@xyflow/react";
import { useEffect, useState } from "react";
import { api, ServerError } from "../api/client";
import { readTypes } from "../model/types";
import { setTypes } from "../state/document";
import { openExample } from "../state/files";
import { follow } from "../state/run";
import { useUi } from "../state/ui";
import { t } from "../strings";
import { Canvas } from "./canvas/Canvas";
import { Help } from "./Help";
import { Panels } from "./panels/Panels";
import { SearchBox } from "./SearchBox";
import { useShortcuts } from "./shortcuts";
import { TopBar } from "./TopBar";
import { Viewer } from "./Viewer";

const FIRST_EXAMPLE = "text_to_image";
const RETRY = 1500;

export function App() {
  const [state, setState] = useState<"loading" | "unreachable" | "ready">("loading");
  useTheme();
  useEffect(() => {
    let over = false;
    async function begin(): Promise<void> {
      for (;;) {
        try {
          setTypes(readTypes(await api.objectInfo()));
          await openExample(FIRST_EXAMPLE);
          if (!over) setState("ready");
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
    const leave = follow();
    return () => {
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
  useShortcuts();
  const online = useUi((ui) => ui.online);
  return (
    <div className="editor">
      <TopBar />
      {!online && (
        <div className="banner" role="status">
          {t("app.offline")}
        </div>
      )}
      <div className="work">
        <Canvas />
        <Panels />
      </div>
      <SearchBox />
      <Viewer />
      <Help />
      <Toast />
    </div>
  );
}

function Toast() {
  const message = useUi((ui) => ui.message);
  useEffect(() => {
    if (message === null) return;
    const timer = setTimeout(() => useUi.getState().tell(null), 6000);
    return () => clearTimeout(timer);
  }, [message]);
  return (
    <div className="toasts" role="status" aria-live="polite">
      {message !== null && (
        <div className="toast">
          {message}
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
