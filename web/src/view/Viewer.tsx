import { api } from "../api/client";
import { useUi } from "../state/ui";
import { t } from "../strings";
import { Dialog } from "./Dialog";
import { Icon } from "./icons";

/** One picture, as large as the window allows. */
export function Viewer() {
  const image = useUi((ui) => ui.viewer);
  if (!image) return null;
  const close = () => useUi.setState({ viewer: null });
  const source = api.view(image);
  return (
    <Dialog label={t("viewer.label", { name: image.filename })} className="viewer" onClose={close}>
      <header>
        <span>{image.filename}</span>
        <a className="button" href={source} download={image.filename}>
          <Icon name="download" /> {t("result.download")}
        </a>
        <button className="plain" onClick={close} aria-label={t("viewer.close")}>
          <Icon name="close" />
        </button>
      </header>
      <img src={source} alt={t("result.image", { name: image.filename })} />
    </Dialog>
  );
}
