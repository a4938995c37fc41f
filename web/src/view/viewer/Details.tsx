import { useEffect, useState } from "react";
import { api, ServerError } from "../../api/client";
import { NotAWorkflow, readWorkflow } from "../../model/document";
import { parametersOf, valuesOf } from "../../model/parameters";
import type { ImageFile } from "../../model/run";
import type { Workflow } from "../../model/workflow";
import { useDocument } from "../../state/document";
import { openInTab } from "../../state/tabs";
import { useUi } from "../../state/ui";
import { t } from "../../strings";
import { titleOf } from "../titles";

interface Facts {
  readonly width: number;
  readonly height: number;
  readonly bytes: number;
  /** What made it; null where it does not say. */
  readonly workflow: Workflow | null;
}

async function factsOf(image: ImageFile): Promise<Facts> {
  const file = await api.file(image);
  const { width, height } = await createImageBitmap(file);
  let workflow: Workflow | null = null;
  try {
    workflow = readWorkflow((await api.convert(file)).workflow);
  } catch (error) {
    // Not every picture carries a workflow.
    if (!(error instanceof ServerError || error instanceof NotAWorkflow)) throw error;
  }
  return { width, height, bytes: file.size, workflow };
}

/** Size, file, and the values that a picture was made with, as it carries them. */
export function Details({ image }: { image: ImageFile }) {
  const [found, setFound] = useState<{ image: ImageFile; facts: Facts | null } | null>(null);
  useEffect(() => {
    let over = false;
    factsOf(image).then(
      (facts) => !over && setFound({ image, facts }),
      (error: unknown) => {
        if (!(error instanceof ServerError || error instanceof DOMException)) throw error;
        if (!over) setFound({ image, facts: null });
      },
    );
    return () => {
      over = true;
    };
  }, [image]);
  if (found?.image !== image) return <aside className="details" aria-label={t("viewer.details")} aria-busy="true" />;
  const { facts } = found;
  return (
    <aside className="details" aria-label={t("viewer.details")}>
      {facts ? (
        <dl>
          <Fact name={t("viewer.size")} value={`${facts.width} × ${facts.height}`} />
          <Fact name={t("viewer.file")} value={`${image.subfolder ? `${image.subfolder}/` : ""}${image.filename}, ${Math.ceil(facts.bytes / 1024)} kB`} />
          {facts.workflow && <Values workflow={facts.workflow} />}
        </dl>
      ) : (
        <p>{t("viewer.unread")}</p>
      )}
      {facts?.workflow && (
        <button
          className="button"
          onClick={() => {
            if (facts.workflow) openInTab(facts.workflow);
            useUi.setState({ viewer: null });
          }}
        >
          {t("viewer.open")}
        </button>
      )}
    </aside>
  );
}

/** The declared parameters with their values; where none are declared, what every node was set to. */
function Values({ workflow }: { workflow: Workflow }) {
  const types = useDocument((state) => state.types);
  const values = valuesOf(workflow, types);
  if (Object.keys(values).length)
    return parametersOf(workflow).map(({ name }) => name in values && <Fact key={name} name={name} value={String(values[name])} />);
  return Object.values(workflow.nodes).flatMap((node) =>
    Object.entries(node.values)
      .filter(([name]) => !(name in node.links))
      .map(([name, value]) => <Fact key={`${node.id} ${name}`} name={`${titleOf(node, types)} · ${name}`} value={String(value)} />),
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value || t("list.nothing")}</dd>
    </div>
  );
}
