import { setValue } from "../../model/commands";
import type { InputType } from "../../model/types";
import type { GraphNode } from "../../model/workflow";
import { edit } from "../../state/document";
import { t } from "../../strings";
import { WIDGETS } from ".";
import { Declare } from "./Declare";

/** An input with its name and the widget of its kind; while a link feeds it, the link's say goes. */
export function Widget({ node, input, title }: { node: GraphNode; input: InputType; title: string }) {
  const Kind = input.widget && WIDGETS[input.widget];
  if (!Kind) return null;
  const linked = input.name in node.links;
  return (
    <>
      <span className="label" title={input.tooltip}>
        {input.name}
      </span>
      {linked ? (
        <span className="linked">{t("widget.linked")}</span>
      ) : (
        <Kind
          node={node}
          input={input}
          value={node.values[input.name] ?? input.initial}
          label={t("widget.label", { name: input.name, title })}
          set={(value) => edit(setValue(node.id, input.name, value), { merge: `${node.id} ${input.name}` })}
        />
      )}
      {!linked && <Declare node={node.id} input={input.name} title={title} />}
    </>
  );
}
