/** The sub-graph that is shown; empty for the workflow itself. */

import { create } from "zustand";
import { freeId, type Workflow } from "../model/workflow";
import { subgraphsOf } from "../model/subgraphs";
import { useDocument } from "./document";

export const useScope = create<{ readonly scope: string }>()(() => ({ scope: "" }));

/** A free id for a node of the scope that is shown. */
export function freeIdHere(workflow: Workflow): string {
  const { scope } = useScope.getState();
  return `${scope && `${scope}:`}${freeId(workflow)}`;
}

useDocument.subscribe(({ workflow }) => {
  const { scope } = useScope.getState();
  if (scope && !subgraphsOf(workflow).has(scope)) useScope.setState({ scope: "" });
});
