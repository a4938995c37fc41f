import { ViewportPortal } from "@xyflow/react";
import { useMemo } from "react";
import { boxOf, useFlow } from "./flow";
import { estimate } from "./metrics";

/** All links from afar: one path of straight lines a colour, where a thousand elements would only make the canvas slow. */
export function FarEdges() {
  const nodes = useFlow((flow) => flow.nodes);
  const edges = useFlow((flow) => flow.edges);
  const paths = useMemo(() => {
    const known = new Map(nodes.map((node) => [node.id, node]));
    const found = new Map<string, string[]>();
    function end(id: string, handle: string | null | undefined, side: "source" | "target"): string {
      const node = known.get(id);
      if (!node) return "0 0";
      const { x, y } = node.position;
      const handles = node.handles ?? (node.type === "graph" ? estimate(node.data.node, node.data.types).handles : []);
      const place = handles.find((item) => item.id === handle);
      if (place) return `${x + place.x + 6} ${y + place.y + 6}`;
      const { pos, size } = boxOf(node);
      return `${pos[0] + (side === "source" ? size[0] : 0)} ${pos[1] + size[1] / 2}`;
    }
    for (const edge of edges) {
      const colour = String(edge.style?.stroke);
      const lines = found.get(colour) ?? [];
      found.set(colour, lines);
      lines.push(`M${end(edge.source, edge.sourceHandle, "source")}L${end(edge.target, edge.targetHandle, "target")}`);
    }
    return Array.from(found, ([colour, lines]) => <path key={colour} stroke={colour} d={lines.join("")} />);
  }, [nodes, edges]);
  return (
    <ViewportPortal>
      <svg className="far-edges" aria-hidden="true">
        {paths}
      </svg>
    </ViewportPortal>
  );
}
