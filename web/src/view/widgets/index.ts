/** The widgets by kind of input. A new one is a file with a component, one entry here, and its kind in model/types. */

import type { ComponentType } from "react";
import type { WidgetKind } from "../../model/types";
import { BooleanWidget } from "./boolean";
import { ChoiceWidget } from "./choice";
import { ImageWidget } from "./image";
import { FloatWidget, IntegerWidget } from "./number";
import type { WidgetProps } from "./props";
import { MultilineWidget, TextWidget } from "./text";

export const WIDGETS: Readonly<Record<WidgetKind, ComponentType<WidgetProps>>> = {
  integer: IntegerWidget,
  float: FloatWidget,
  text: TextWidget,
  multiline: MultilineWidget,
  choice: ChoiceWidget,
  boolean: BooleanWidget,
  image: ImageWidget,
};
