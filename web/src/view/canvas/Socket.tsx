import { Handle, Position } from "@xyflow/react";
import { assignable } from "../../model/types";
import { useUi } from "../../state/ui";
import { t } from "../../strings";
import { colourOf } from "../colours";
import { inputHandle, outputHandle } from "./flow";

interface SocketProps {
  readonly node: string;
  readonly title: string;
  readonly type: string;
  readonly name: string;
}

/** Whether the link that is being drawn may end at a socket; undefined while none is drawn. */
function useFits(node: string, type: string, side: "source" | "target"): boolean | undefined {
  return useUi(({ drawing }) => {
    if (!drawing) return undefined;
    if (drawing.node === node || drawing.side === side) return false;
    return side === "target" ? assignable(drawing.type, type) : assignable(type, drawing.type);
  });
}

export function InputSocket({ node, title, type, name }: SocketProps) {
  const fits = useFits(node, type, "target");
  return (
    <Handle
      type="target"
      position={Position.Left}
      id={inputHandle(name)}
      className="socket"
      data-fits={fits}
      aria-label={t("socket.input", { name, title, type })}
      title={type}
      style={{ background: colourOf(type) }}
    />
  );
}

export function OutputSocket({ node, title, type, name, index }: SocketProps & { readonly index: number }) {
  const fits = useFits(node, type, "source");
  return (
    <Handle
      type="source"
      position={Position.Right}
      id={outputHandle(index)}
      className="socket"
      data-fits={fits}
      aria-label={t("socket.output", { name, title, type })}
      title={type}
      style={{ background: colourOf(type) }}
    />
  );
}
