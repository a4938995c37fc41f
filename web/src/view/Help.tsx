import { useUi } from "../state/ui";
import { t } from "../strings";
import { Dialog } from "./Dialog";
import { Icon } from "./icons";
import { keyNames } from "./keys";
import { GRAPH_KEYS, SHORTCUTS, type Shortcut } from "./shortcuts";

/** The list of shortcuts. */
export function Help() {
  const shown = useUi((ui) => ui.help);
  if (!shown) return null;
  return (
    <Dialog label={t("shortcuts.label")} className="dialog keys" onClose={() => useUi.setState({ help: false })}>
      <header>
        <h2>{t("shortcuts.label")}</h2>
        <button className="plain" onClick={() => useUi.setState({ help: false })} aria-label={t("shortcuts.close")} title={t("shortcuts.close")}>
          <Icon name="close" />
        </button>
      </header>
      <Keys listed={SHORTCUTS} />
      <h3>{t("shortcuts.graph")}</h3>
      <Keys listed={GRAPH_KEYS} />
    </Dialog>
  );
}

function Keys({ listed }: { listed: readonly Pick<Shortcut, "keys" | "label">[] }) {
  return (
    <dl className="shortcuts">
      {listed.map((shortcut) => (
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
  );
}
