import { useState } from "react";
import { curlCall, pythonCall } from "../../model/calls";
import { valuesOf } from "../../model/parameters";
import { useDocument } from "../../state/document";
import { fileName, save } from "../../state/files";
import { useUi } from "../../state/ui";
import { t } from "../../strings";
import { Icon } from "../icons";

const FORMS = { curl: curlCall, python: pythonCall } as const;

/** How a program runs the workflow as it is saved, with the values of the form. */
export function Calls() {
  const { workflow, types } = useDocument();
  const [form, setForm] = useState<keyof typeof FORMS>("curl");
  const text = FORMS[form](location.origin, fileName(), valuesOf(workflow, types));
  async function copy(): Promise<void> {
    try {
      await navigator.clipboard.writeText(text);
      useUi.getState().tell(t("app.copied"));
    } catch {
      // Without a secure origin there is no clipboard: the text can be selected.
      useUi.getState().tell(t("app.byHand"));
    }
  }
  return (
    <section className="calls" aria-label={t("app.calls")}>
      <header>
        <h3>{t("app.calls")}</h3>
        {(["curl", "python"] as const).map((name) => (
          <button key={name} className="button" aria-pressed={form === name} onClick={() => setForm(name)}>
            {t(`app.${name}`)}
          </button>
        ))}
        <span className="space" />
        <button className="plain" onClick={() => void copy()} aria-label={t("app.copy")} title={t("app.copy")}>
          <Icon name="copy" />
        </button>
      </header>
      <pre tabIndex={0} aria-label={t(`app.${form}`)}>
        {text}
      </pre>
      <p className="about">
        {t("app.saved")}{" "}
        <button className="link" onClick={() => void save()}>
          {t("bar.save")}
        </button>
      </p>
    </section>
  );
}
