import { closeTab, newTab, switchTab, useTabs } from "../state/tabs";
import { useDocument } from "../state/document";
import { t } from "../strings";
import { Icon } from "./icons";

/** The open workflows, where there are several. */
export function TabStrip() {
  const { tabs, active } = useTabs();
  const front = useDocument((state) => state.workflow.title);
  if (tabs.length < 2) return null;
  return (
    <nav className="tabs" aria-label={t("tabs.label")}>
      <ul>
        {tabs.map((tab) => {
          const title = (tab.id === active ? front : tab.title) || t("bar.untitled");
          return (
            <li key={tab.id} data-active={tab.id === active || undefined}>
              <button aria-current={tab.id === active ? "page" : undefined} onClick={() => switchTab(tab.id)} title={title}>
                {title}
              </button>
              <button className="plain" onClick={() => closeTab(tab.id)} aria-label={t("tabs.close", { title })}>
                <Icon name="close" />
              </button>
            </li>
          );
        })}
      </ul>
      <button className="plain" onClick={newTab} aria-label={t("tabs.new")} title={t("tabs.new")}>
        <Icon name="plus" />
      </button>
    </nav>
  );
}
