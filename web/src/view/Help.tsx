import { useUi } from "../state/ui";
import { t } from "../strings";
import { Dialog } from "./Dialog";
import { keyNames } from "./keys";
import { SHORTCUTS } from "./shortcuts";

/** The list of shortcuts. */
export function Help() {
  const shown = useUi((ui) => ui.help);
  if (!shown) return null;
  return (
    <Dialog label={t("shortcuts.label")} className="dialog" onClose={() => useUi.setState({ help: false })}>
      <h2>{t("shortcuts.label")}</h2>
      <dl className="shortcuts">
        {SHORTCUTS.map((shortcut) => (
          <div key={shortcut.label}>
            <dt>{t(shortcut.label)}</dt>
            <dd>
              {shortcut.keys.map((keys) => (
                <span key={keys}>
                  {keyNames(keys).map((key) => (
                    <kbd key={key}>{key}</kbd>
                  ))}
                </span>
              ))}
            </dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
