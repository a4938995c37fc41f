import { useStoreApi } from "@xyflow/react";
import { useLayoutEffect, useRef } from "react";
import { FAR } from "./far";

/** Pixels from one dot to the next at a zoom of 1; style.css has the same number. */
const GAP = 22;

/** The dots of the canvas. A picture of them is moved along when it is panned; only another zoom draws them anew. */
export function Dots() {
  const store = useStoreApi();
  const dots = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    let drawn = 0;
    function place(): void {
      const [x, y, zoom] = store.getState().transform;
      const element = dots.current;
      if (!element) return;
      if (zoom !== drawn) {
        element.style.setProperty("--zoom", String(zoom));
        element.toggleAttribute("data-far", zoom < FAR);
        drawn = zoom;
      }
      element.style.transform = `translate(${x % (GAP * zoom)}px, ${y % (GAP * zoom)}px)`;
    }
    place();
    return store.subscribe(place);
  }, [store]);
  return <div ref={dots} className="dots" aria-hidden="true" />;
}
