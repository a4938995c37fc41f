import { Handle, Position } from "@xyflow/react";
import { assignable } from "../../model/types";
import { useUi } from "../../state/ui";
import { t } from "../../strings";
import { colourOf } from "../colours";
import { inputHandle, outputHandle } from "./handles";

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

function Socket({ node, side, type, id, label }: {
  readonly node: string;
  readonly side: "source" | "target";
  readonly type: string;
  readonly id: string;
  readonly label: string;
}) {
  return (
    <Handle
      type={side}
      position={side === "target" ? Position.Left : Position.Right}
      id={id}
      className="socket"
      data-fits={useFits(node, type, side)}
      role="button"
      tabIndex={-1}
      aria-label={label}
      title={type}
      style={{ background: colourOf(type) }}
    />
  );
}

/** `called` is what it goes by where that is not its name. */
export function InputSocket({ node, title, type, name, called }: SocketProps & { readonly called?: string }) {
  const label = t("socket.input", { name: called ?? name, title, type });
  return <Socket node={node} side="target" type={type} id={inputHandle(name)} label={label} />;
}

export function OutputSocket({ node, title, type, name, index }: SocketProps & { readonly index: number | string }) {
  const label = t("socket.output", { name, title, type });
  return <Socket node={node} side="source" type={type} id={outputHandle(index)} label={label} />;
}
