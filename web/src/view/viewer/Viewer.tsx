import { useMemo, useState } from "react";
import { useShallow } from "zustand/react/shallow";
import { api } from "../../api/client";
import type { ImageFile } from "../../model/run";
import { useRun } from "../../state/run";
import { useUi } from "../../state/ui";
import { t } from "../../strings";
import { Dialog } from "../Dialog";
import { Icon } from "../icons";
import { Details } from "./Details";
import { FIT, Stage, type View } from "./Stage";
import { Slider } from "./Slider";

type Comparison = "none" | "side" | "slider";

const keyOf = (image: ImageFile): string => `${image.type} ${image.subfolder} ${image.filename}`;

/** Pictures as large as the window allows: to look into, to set beside each other, to know where they come from. */
export function Viewer() {
  const image = useUi((ui) => ui.viewer);
  return image && <Open image={image} />;
}

const show = (viewer: ImageFile | null) => useUi.setState({ viewer });

function Open({ image }: { image: ImageFile }) {
  const [view, setView] = useState<View>(FIT);
  const [comparison, setComparison] = useState<Comparison>("none");
  const [chosen, setChosen] = useState<ImageFile | null>(null);
  const [details, setDetails] = useState(false);
  const images = useImages(image);
  const place = images.findIndex((item) => keyOf(item) === keyOf(image));
  const other = chosen && keyOf(chosen) !== keyOf(image) ? chosen : (images[place + 1] ?? images[place - 1] ?? null);
  const comparing = comparison !== "none" && other !== null;
  const step = (by: number) => show(images[place + by] ?? image);
  const label = (kind: Comparison) => t(kind === "side" ? "viewer.side" : "viewer.slider");
  return (
    <Dialog label={t("viewer.label", { name: image.filename })} className="viewer" onClose={() => show(null)}>
      <header>
        <span>{comparing ? t("viewer.pair", { name: image.filename, other: other.filename }) : image.filename}</span>
        {(["side", "slider"] as const).map((kind) => (
          <button
            key={kind}
            className="plain"
            disabled={images.length < 2}
            aria-pressed={comparison === kind}
            aria-label={label(kind)}
            title={label(kind)}
            onClick={() => setComparison(comparison === kind ? "none" : kind)}
          >
            <Icon name={kind === "side" ? "columns" : "split"} />
          </button>
        ))}
        <button className="plain" aria-pressed={details} aria-label={t("viewer.details")} title={t("viewer.details")} onClick={() => setDetails(!details)}>
          <Icon name="info" />
        </button>
        <a className="button" href={api.view(image)} download={image.filename}>
          <Icon name="download" /> {t("result.download")}
        </a>
        <button className="plain" onClick={() => show(null)} aria-label={t("viewer.close")}>
          <Icon name="close" />
        </button>
      </header>
      <div className="pictures">
        {comparing && comparison === "slider" ? (
          <Slider image={image} other={other} view={view} setView={setView} />
        ) : (
          <>
            <Stage image={image} view={view} setView={setView} step={step} />
            {comparing && <Stage image={other} view={view} setView={setView} step={step} />}
          </>
        )}
        {details && <Details image={image} />}
      </div>
      <footer>
        <Zoom view={view} setView={setView} />
        {images.length > 1 && (
          <ul className="strip" aria-label={t(comparing ? "viewer.compareWith" : "viewer.pictures")}>
            {images.map((item) => (
              <li key={keyOf(item)}>
                <button
                  aria-label={t(comparing ? "viewer.with" : "result.open", { name: item.filename })}
                  aria-current={keyOf(item) === keyOf(image) || undefined}
                  data-other={(comparing && keyOf(item) === keyOf(other)) || undefined}
                  onClick={() => (comparing ? setChosen(item) : show(item))}
                >
                  <img src={api.view(item, true)} alt="" loading="lazy" />
                </button>
              </li>
            ))}
          </ul>
        )}
      </footer>
    </Dialog>
  );
}

/** What was made lately, with the picture that is looked at. */
function useImages(image: ImageFile): readonly ImageFile[] {
  const own = useRun(useShallow((run) => Object.values(run.nodes).flatMap((node) => node.images ?? [])));
  const recent = useRun((run) => run.recent);
  return useMemo(() => {
    const found = new Map([...own, ...recent].map((item) => [keyOf(item), item]));
    return found.has(keyOf(image)) ? [...found.values()] : [image, ...found.values()];
  }, [own, recent, image]);
}

function Zoom({ view, setView }: { view: View; setView: (view: View) => void }) {
  const by = (factor: number) => setView({ ...view, scale: Math.min(32, Math.max(1, view.scale * factor)) });
  const percent = Math.round(view.scale * 100);
  return (
    <div className="zoom">
      <button className="plain" onClick={() => by(1 / 1.5)} aria-label={t("viewer.out")} title={t("viewer.out")}>
        −
      </button>
      <button className="plain factor" onClick={() => setView(FIT)} aria-label={t("viewer.factor", { percent })} title={t("viewer.fit")}>
        {percent} %
      </button>
      <button className="plain" onClick={() => by(1.5)} aria-label={t("viewer.in")} title={t("viewer.in")}>
        +
      </button>
    </div>
  );
}
