/** The widgets by kind of input. A new one is a file with a component, one entry here, and its kind in model/types. */

import type { ComponentType } from "react";
import type { Json } from "../../model/json";
import type { InputType, WidgetKind } from "../../model/types";
import type { GraphNode } from "../../model/workflow";
import { BooleanWidget } from "./boolean";
import { ChoiceWidget } from "./choice";
import { ImageWidget } from "./image";
import { FloatWidget, IntegerWidget } from "./number";
import { MultilineWidget, TextWidget } from "./text";

export interface WidgetProps {
  readonly node: GraphNode;
  readonly input: InputType;
  readonly value: Json;
  /** What a screen reader calls it. */
  readonly label: string;
  /** Set the value; calls in quick succession are one step of undo. */
  readonly set: (value: Json) => void;
}

export const WIDGETS: Readonly<Record<WidgetKind, ComponentType<WidgetProps>>> = {
  integer: IntegerWidget,
  float: FloatWidget,
  text: TextWidget,
  multiline: MultilineWidget,
  choice: ChoiceWidget,
  boolean: BooleanWidget,
  image: ImageWidget,
};
