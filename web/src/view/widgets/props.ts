/** What every widget is given. */

import type { Json } from "../../model/json";
import type { InputType } from "../../model/types";
import type { GraphNode } from "../../model/workflow";

export interface WidgetProps {
  readonly node: GraphNode;
  readonly input: InputType;
  readonly value: Json;
  /** What a screen reader calls it. */
  readonly label: string;
  /** Set the value; calls in quick succession are one step of undo. */
  readonly set: (value: Json) => void;
}
