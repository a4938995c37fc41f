import { ViewportPortal } from "@xyflow/react";
import { memo, useMemo, useState } from "react";
import { boxOf, useFlow, type FlowEdge, type FlowNode } from "./flow";
import { estimate } from "./metrics";

/** Links that are drawn as one path: few enough that what is out of a part of the canvas is passed over there. */
const TOGETHER = 50;

/**
 * All links from afar: a few paths of straight lines, where a thousand elements would only make the canvas slow. Those of
 * nodes that are being dragged are drawn apart, so that the rest stays as it is.
 */
export function FarEdges() {
  const nodes = useFlow((flow) => flow.nodes);
  const edges = useFlow((flow) => flow.edges);
  const still = useStill(nodes);
  const dragged = nodes.flatMap((node) => (node.dragging ? [node.id] : [])).join("\n");
  const [resting, others] = useMemo(() => {
    const ids = new Set(dragged.split("\n"));
    const moves = (edge: FlowEdge) => ids.has(edge.source) || ids.has(edge.target);
    return [edges.filter((edge) => !moves(edge)), edges.filter(moves)];
  }, [edges, dragged]);
  return (
    <ViewportPortal>
      <Lines nodes={still} edges={resting} />
      {others.length > 0 && <Lines nodes={nodes} edges={others} />}
    </ViewportPortal>
  );
}

/** The nodes that are not being dragged; the same list as long as they are the same. */
function useStill(nodes: readonly FlowNode[]): readonly FlowNode[] {
  const [known, setKnown] = useState(nodes);
  const still = nodes.filter((node) => !node.dragging);
  if (still.length === known.length && still.every((node, index) => node === known[index])) return known;
  setKnown(still);
  return still;
}

interface LinesProps {
  readonly nodes: readonly FlowNode[];
  readonly edges: readonly FlowEdge[];
}

const Lines = memo(function Lines({ nodes, edges }: LinesProps) {
  const paths = useMemo(() => {
    const known = new Map(nodes.map((node) => [node.id, node]));
    const found = new Map<string, string[]>();
    for (const edge of edges) {
      const colour = String(edge.style?.stroke);
      const lines = found.get(colour) ?? [];
      found.set(colour, lines);
      lines.push(`M${end(known, edge.source, edge.sourceHandle, "source")}L${end(known, edge.target, edge.targetHandle, "target")}`);
    }
    return Array.from(found).flatMap(([colour, lines]) =>
      Array.from({ length: Math.ceil(lines.length / TOGETHER) }, (_, part) => (
        <path key={`${colour} ${part}`} stroke={colour} d={lines.slice(part * TOGETHER, (part + 1) * TOGETHER).join("")} />
      )),
    );
  }, [nodes, edges]);
  return (
    <svg className="far-edges" aria-hidden="true">
      {paths}
    </svg>
  );
});

function end(nodes: ReadonlyMap<string, FlowNode>, id: string, handle: string | null | undefined, side: "source" | "target"): string {
  const node = nodes.get(id);
  if (!node) return "0 0";
  const { x, y } = node.position;
  const handles = node.handles ?? (node.type === "graph" ? estimate(node.data.node, node.data.types).handles : []);
  const place = handles.find((item) => item.id === handle);
  if (place) return `${x + place.x + 6} ${y + place.y + 6}`;
  const { pos, size } = boxOf(node);
  return `${pos[0] + (side === "source" ? size[0] : 0)} ${pos[1] + size[1] / 2}`;
}
