import { keepBoth, openSaved, replaceSaved } from "../state/files";
import { useUi } from "../state/ui";
import { t } from "../strings";
import { Dialog } from "./Dialog";

/** What is to become of a workflow on the server that changed since it was opened here. */
export function ConflictDialog() {
  const conflict = useUi((ui) => ui.conflict);
  if (!conflict) return null;
  const close = () => useUi.setState({ conflict: null });
  const { name, mark } = conflict;
  const act = (action: () => Promise<void>) => () => {
    close();
    void action();
  };
  return (
    <Dialog label={t("conflict.label")} className="dialog" onClose={close}>
      <h2>{t("conflict.label")}</h2>
      <p>{t("conflict.text", { name })}</p>
      <div className="choices-row">
        <button className="button primary" onClick={act(keepBoth)}>
          {t("conflict.both")}
        </button>
        <button className="button" onClick={act(() => replaceSaved(mark))}>
          {t("conflict.replace")}
        </button>
        <button className="button" onClick={act(() => openSaved(name))}>
          {t("conflict.open")}
        </button>
        <button className="button" onClick={close}>
          {t("conflict.cancel")}
        </button>
      </div>
    </Dialog>
  );
}
