import { useUi } from "../../state/ui";
import { t } from "../../strings";
import { Icon } from "../icons";
import { PANELS, type Panel } from ".";

/** The rail of panels, and the one that is open. */
export function Panels() {
  const open = useUi((ui) => ui.panel);
  const panel = PANELS.find((item) => item.id === open);
  return (
    <aside className="panels" aria-label={t("bar.panels")}>
      {panel && (
        <section className="panel" id={`panel-${panel.id}`} aria-label={t(panel.title)}>
          <header>
            <h2>{t(panel.title)}</h2>
            <button className="plain" onClick={() => useUi.getState().show(null)} aria-label={t("panel.close")}>
              <Icon name="close" />
            </button>
          </header>
          <panel.Content />
        </section>
      )}
      <nav className="rail" aria-label={t("bar.panels")}>
        {PANELS.map((item) => (
          <Tab key={item.id} panel={item} open={item.id === open} />
        ))}
      </nav>
    </aside>
  );
}

const useNone = () => 0;

function Tab({ panel, open }: { panel: Panel; open: boolean }) {
  const count = (panel.useCount ?? useNone)();
  const title = t(panel.title);
  return (
    <button
      className="plain"
      aria-pressed={open}
      aria-controls={open ? `panel-${panel.id}` : undefined}
      data-opens={`panel-${panel.id}`}
      aria-label={count ? `${title} (${count})` : title}
      title={title}
      onClick={() => useUi.getState().show(open ? null : panel.id)}
    >
      <Icon name={panel.icon} />
      {t(panel.short ?? panel.title)}
      {count > 0 && <b className="count" data-count={count} />}
    </button>
  );
}
