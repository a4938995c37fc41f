import { Panel, useReactFlow, useStore } from "@xyflow/react";
import { useMemo, useRef, type PointerEvent } from "react";
import { useShallow } from "zustand/react/shallow";
import { t } from "../../strings";
import { boundsOf, boxOf, useFlow, type FlowNode } from "./flow";

const WIDTH = 200;
const HEIGHT = 150;
/** Of the map's own size, around what it shows. */
const MARGIN = 0.025;

interface Rect {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

/**
 * The whole graph, small, where it is not in view as a whole: one path for all nodes, and what is in view. Click or drag to go there, turn the wheel to zoom.
 * What moves while the canvas is panned is moved by transforms, for which nothing is drawn anew.
 */
export function MiniMap() {
  const nodes = useFlow((flow) => flow.nodes);
  const { zoomTo, getZoom, setCenter } = useReactFlow();
  const map = useRef<HTMLDivElement>(null);
  const { rect, paths } = useMemo(() => draw(nodes), [nodes]);
  const [left, top, right, bottom] = useStore(
    useShallow(({ transform: [x, y, zoom], width, height }) => [-x / zoom, -y / zoom, (width - x) / zoom, (height - y) / zoom]),
  ) as [number, number, number, number];
  if (!rect || (rect.left >= left && rect.top >= top && rect.right <= right && rect.bottom <= bottom)) return null;
  const own = viewOf(rect);
  const all = viewOf(union(rect, { left, top, right, bottom }));

  function go(event: PointerEvent): void {
    const box = map.current?.getBoundingClientRect();
    if (!box || !(event.buttons & 1)) return;
    void setCenter(all.x + (event.clientX - box.left) / all.scale, all.y + (event.clientY - box.top) / all.scale, { zoom: getZoom() });
  }

  return (
    <Panel position="bottom-right" className="minimap">
      <div
        ref={map}
        role="img"
        aria-label={t("canvas.map")}
        style={{ width: WIDTH, height: HEIGHT }}
        onPointerDown={(event) => {
          event.currentTarget.setPointerCapture(event.pointerId);
          go(event);
        }}
        onPointerMove={go}
        onWheel={(event) => void zoomTo(getZoom() * 2 ** (-event.deltaY * 0.002))}
      >
        <svg
          viewBox={`${own.x} ${own.y} ${WIDTH / own.scale} ${HEIGHT / own.scale}`}
          style={{ transform: `translate(${(own.x - all.x) * all.scale}px, ${(own.y - all.y) * all.scale}px) scale(${all.scale / own.scale})` }}
        >
          {paths}
        </svg>
        <i
          style={{
            width: Math.round((right - left) * all.scale),
            height: Math.round((bottom - top) * all.scale),
            transform: `translate(${(left - all.x) * all.scale}px, ${(top - all.y) * all.scale}px)`,
          }}
        />
      </div>
    </Panel>
  );
}

/** A path for each kind of node, and the box that they fill. */
function draw(nodes: readonly FlowNode[]) {
  const found = new Map<string, string[]>();
  for (const node of nodes) {
    const { pos: [x, y], size: [width, height] } = boxOf(node);
    const kind = node.type === "groups" || node.type === "notes" ? node.type : "nodes";
    const shapes = found.get(kind) ?? [];
    found.set(kind, shapes);
    shapes.push(`M${x} ${y}h${width}v${height}h${-width}z`);
  }
  const { x: left, y: top, width, height } = boundsOf(nodes);
  const rect = nodes.length ? { left, top, right: left + width, bottom: top + height } : undefined;
  return { rect, paths: Array.from(found, ([kind, shapes]) => <path key={kind} className={kind} d={shapes.join("")} />) };
}

function union(one: Rect | undefined, other: Rect): Rect {
  if (!one) return other;
  return {
    left: Math.min(one.left, other.left),
    top: Math.min(one.top, other.top),
    right: Math.max(one.right, other.right),
    bottom: Math.max(one.bottom, other.bottom),
  };
}

/** Where the map begins, and how many of its pixels are one of the graph's, to show a rectangle. */
function viewOf({ left, top, right, bottom }: Rect): { x: number; y: number; scale: number } {
  const scale = 1 / (Math.max((right - left) / WIDTH, (bottom - top) / HEIGHT, 1e-6) * (1 + 2 * MARGIN));
  return { x: (left + right - WIDTH / scale) / 2, y: (top + bottom - HEIGHT / scale) / 2, scale };
}
