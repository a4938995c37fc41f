import { useUi } from "../state/ui";
import { t } from "../strings";
import { Dialog } from "./Dialog";

/** The link to the workflow, to be copied by hand. */
export function LinkDialog() {
  const link = useUi((ui) => ui.link);
  if (link === null) return null;
  return (
    <Dialog label={t("link.label")} className="dialog" onClose={() => useUi.setState({ link: null })}>
      <h2>{t("link.label")}</h2>
      <p>{t("link.byHand")}</p>
      <textarea className="field text" readOnly value={link} aria-label={t("link.label")} onFocus={(event) => event.target.select()} />
    </Dialog>
  );
}
