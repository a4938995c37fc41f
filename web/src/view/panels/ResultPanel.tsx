import { useShallow } from "zustand/react/shallow";
import { api } from "../../api/client";
import { isActive } from "../../model/run";
import { useRun } from "../../state/run";
import { useUi } from "../../state/ui";
import { t } from "../../strings";
import { Icon } from "../icons";

/** What the last run made, large; while it runs, what it is at. */
export function ResultPanel() {
  const images = useRun(useShallow((run) => Object.values(run.nodes).flatMap((node) => node.images ?? [])));
  const preview = useRun((run) => (isActive(run) ? Object.values(run.previews).at(-1) : undefined));
  if (preview && !images.length)
    return (
      <div className="results">
        <img className="picture live" src={preview} alt="" />
      </div>
    );
  if (!images.length)
    return (
      <div className="empty">
        <Icon name="image" />
        <p>{t("result.none")}</p>
        <p>{t("result.hint")}</p>
      </div>
    );
  return (
    <div className="results">
      {images.map((image) => (
        <figure key={`${image.subfolder}/${image.filename}`}>
          <button
            className="plain"
            aria-label={t("result.open", { name: image.filename })}
            onClick={() => useUi.setState({ viewer: image })}
          >
            <img className="picture" src={api.view(image)} alt={t("result.image", { name: image.filename })} />
          </button>
          <figcaption>
            <span>{image.filename}</span>
            <a href={api.view(image)} download={image.filename}>
              {t("result.download")}
            </a>
          </figcaption>
        </figure>
      ))}
    </div>
  );
}
