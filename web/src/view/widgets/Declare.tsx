import { declare, undeclare } from "../../model/commands";
import { parameterName, parametersOf } from "../../model/parameters";
import { edit, useDocument } from "../../state/document";
import { t } from "../../strings";
import { Icon } from "../icons";

/** Make an input a parameter of the workflow, for its form and its callers, or take it back. */
export function Declare({ node, input, title }: { node: string; input: string; title: string }) {
  const name = useDocument(
    ({ workflow }) =>
      parametersOf(workflow).find(({ places }) => places.some((place) => place.node === node && place.input === input))?.name,
  );
  const label = name === undefined ? t("app.declare", { name: input, title }) : t("app.undeclare", { name });
  return (
    <button
      className="plain declare nodrag"
      // The form lists every input for the keyboard: a stop more at each widget would be in the way.
      tabIndex={-1}
      aria-pressed={name !== undefined}
      aria-label={label}
      title={label}
      onClick={() => {
        const { workflow } = useDocument.getState();
        edit(name === undefined ? declare(parameterName(workflow, input, title), node, input) : undeclare(name));
      }}
    >
      <Icon name="pin" />
    </button>
  );
}
