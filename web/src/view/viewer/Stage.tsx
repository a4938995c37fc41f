import { useEffect, useRef, type KeyboardEvent, type PointerEvent, type ReactNode } from "react";
import { api } from "../../api/client";
import type { ImageFile } from "../../model/run";
import { t } from "../../strings";

/** How a picture is looked at: 1 is all of it, and its middle is moved by pixels of the screen. */
export interface View {
  readonly scale: number;
  readonly x: number;
  readonly y: number;
}

export const FIT: View = { scale: 1, x: 0, y: 0 };
const MOST = 32;
const STEP = 60;

interface SurfaceProps {
  readonly view: View;
  readonly setView: (view: View) => void;
  readonly step?: (by: number) => void;
  readonly label: string;
  readonly children: ReactNode;
}

interface StageProps extends Pick<SurfaceProps, "view" | "setView" | "step"> {
  readonly image: ImageFile;
}

/** A picture to be zoomed into and moved about. */
export function Stage({ image, ...surface }: StageProps) {
  return (
    <Surface {...surface} label={image.filename}>
      <Picture image={image} view={surface.view} />
    </Surface>
  );
}

export function Picture({ image, view }: { image: ImageFile; view: View }) {
  return (
    <img
      src={api.view(image)}
      alt={t("result.image", { name: image.filename })}
      draggable={false}
      data-large={view.scale > 4 || undefined}
      style={{ transform: `translate(${view.x}px, ${view.y}px) scale(${view.scale})` }}
    />
  );
}

/** Wheel and pinch zoom at the pointer, a drag moves, a double click goes in and out, keys do all of it. */
export function Surface({ view, setView, step, label, children }: SurfaceProps) {
  const ref = useRef<HTMLDivElement>(null);
  const pointers = useRef(new Map<string, { x: number; y: number }>());

  function zoom(factor: number, at?: { clientX: number; clientY: number }): void {
    const box = ref.current?.getBoundingClientRect();
    const scale = Math.min(MOST, Math.max(1, view.scale * factor));
    if (scale === 1 || !box) return setView(FIT);
    const x = at ? at.clientX - box.left - box.width / 2 : 0;
    const y = at ? at.clientY - box.top - box.height / 2 : 0;
    const ratio = scale / view.scale;
    setView({ scale, x: x - (x - view.x) * ratio, y: y - (y - view.y) * ratio });
  }

  // React's own wheel listeners are passive: they cannot keep the page from scrolling.
  useEffect(() => {
    const element = ref.current;
    const turn = (event: WheelEvent) => {
      event.preventDefault();
      zoom(Math.exp(-event.deltaY / 400), event);
    };
    element?.addEventListener("wheel", turn, { passive: false });
    return () => element?.removeEventListener("wheel", turn);
  });

  function drag(event: PointerEvent): void {
    const known = pointers.current;
    const id = String(event.pointerId);
    const before = known.get(id);
    if (!before) return;
    const other = [...known].find(([key]) => key !== id)?.[1];
    known.set(id, { x: event.clientX, y: event.clientY });
    if (other) {
      const length = (point: { x: number; y: number }) => Math.hypot(point.x - other.x, point.y - other.y) || 1;
      const middle = { clientX: (event.clientX + other.x) / 2, clientY: (event.clientY + other.y) / 2 };
      zoom(length({ x: event.clientX, y: event.clientY }) / length(before), middle);
    } else if (view.scale > 1) {
      setView({ ...view, x: view.x + event.clientX - before.x, y: view.y + event.clientY - before.y });
    }
  }

  function press(event: KeyboardEvent): void {
    const { key } = event;
    if (key === "+" || key === "=") zoom(1.5);
    else if (key === "-") zoom(1 / 1.5);
    else if (key === "0") setView(FIT);
    else if (view.scale === 1 && (key === "ArrowLeft" || key === "ArrowRight")) step?.(key === "ArrowLeft" ? -1 : 1);
    else if (key === "ArrowLeft") setView({ ...view, x: view.x + STEP });
    else if (key === "ArrowRight") setView({ ...view, x: view.x - STEP });
    else if (key === "ArrowUp") setView({ ...view, y: view.y + STEP });
    else if (key === "ArrowDown") setView({ ...view, y: view.y - STEP });
    else return;
    event.preventDefault();
  }

  const lift = (event: PointerEvent) => pointers.current.delete(String(event.pointerId));
  return (
    <div
      ref={ref}
      className="stage"
      role="group"
      aria-label={t("viewer.stage", { name: label })}
      tabIndex={0}
      data-zoomed={view.scale > 1 || undefined}
      onKeyDown={press}
      onPointerDown={(event) => {
        if (event.target instanceof HTMLInputElement) return;
        event.currentTarget.setPointerCapture(event.pointerId);
        pointers.current.set(String(event.pointerId), { x: event.clientX, y: event.clientY });
      }}
      onPointerMove={drag}
      onPointerUp={lift}
      onPointerCancel={lift}
      onDoubleClick={(event) => (view.scale > 1 ? setView(FIT) : zoom(3, event))}
    >
      {children}
    </div>
  );
}
