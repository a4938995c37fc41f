import { useUi } from "../state/ui";
import { t } from "../strings";
import { Dialog } from "./Dialog";
import { SHORTCUTS } from "./shortcuts";

const MAC = /Mac|iP(hone|ad)/.test(navigator.platform);
const NAMES: Record<string, string> = { mod: MAC ? "⌘" : "Ctrl", alt: MAC ? "⌥" : "Alt", shift: "Shift", enter: "Enter" };

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
                  {keys.split("+").map((key) => (
                    <kbd key={key}>{NAMES[key] ?? key.charAt(0).toUpperCase() + key.slice(1)}</kbd>
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
