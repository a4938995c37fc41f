import { useState, type CSSProperties } from "react";
import type { ImageFile } from "../../model/run";
import { t } from "../../strings";
import { Picture, Surface, type View } from "./Stage";

interface SliderProps {
  readonly image: ImageFile;
  readonly other: ImageFile;
  readonly view: View;
  readonly setView: (view: View) => void;
}

/** Two pictures in one place, with a line to be moved between them: the first to its left. */
export function Slider({ image, other, view, setView }: SliderProps) {
  const [part, setPart] = useState(50);
  return (
    <Surface view={view} setView={setView} label={t("viewer.pair", { name: image.filename, other: other.filename })}>
      <div className="cutting" style={{ "--part": part / 100 } as CSSProperties}>
        <div className="layer">
          <Picture image={other} view={view} />
        </div>
        <div className="layer above">
          <Picture image={image} view={view} />
        </div>
        <i className="cut" />
        <input
          type="range"
          min={0}
          max={100}
          step={0.5}
          value={part}
          aria-label={t("viewer.cut", { name: image.filename })}
          onChange={(event) => setPart(Number(event.target.value))}
          onKeyDown={(event) => event.stopPropagation()}
        />
      </div>
    </Surface>
  );
}
