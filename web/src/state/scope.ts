/** The sub-graph that is shown; empty for the workflow itself. */

import { create } from "zustand";
import { freeId, type Workflow } from "../model/workflow";
import { scopeOf, subgraphsOf } from "../model/subgraphs";
import { useDocument } from "./document";
import { useUi } from "./ui";

export const useScope = create<{ readonly scope: string }>()(() => ({ scope: "" }));

/** A free id for a node of the scope that is shown. */
export function freeIdHere(workflow: Workflow): string {
  const { scope } = useScope.getState();
  return `${scope && `${scope}:`}${freeId(workflow)}`;
}

/** Bring a node into view, in the sub-graph that it lies in. */
export function showNode(id: string): void {
  const scope = scopeOf(id, subgraphsOf(useDocument.getState().workflow));
  if (scope !== useScope.getState().scope) useScope.setState({ scope });
  useUi.setState({ app: false, focus: { node: id } });
}

// A sub-graph that is gone: what was around it is shown.
useDocument.subscribe(({ workflow }) => {
  const { scope } = useScope.getState();
  const subgraphs = subgraphsOf(workflow);
  if (scope && !subgraphs.has(scope)) useScope.setState({ scope: scopeOf(scope, subgraphs) });
});

useUi.subscribe((now, before) => {
  if (now.opened !== before.opened) useScope.setState({ scope: "" });
});
