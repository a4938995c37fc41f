/** The panels beside the canvas. A new one is a file with a component, and one entry here. */

import type { ComponentType } from "react";
import type { StringKey } from "../../strings";
import type { IconName } from "../icons";
import { HistoryPanel } from "./HistoryPanel";
import { PlanPanel } from "./PlanPanel";
import { ListPanel } from "./ListPanel";
import { ProblemsPanel, useProblemCount } from "./ProblemsPanel";
import { QueuePanel, useQueueCount } from "./QueuePanel";
import { ResultPanel } from "./ResultPanel";

export interface Panel {
  readonly id: string;
  readonly title: StringKey;
  /** On its tab, where the title is too long; a part of it, so that it can be said to a computer that listens. */
  readonly short?: StringKey;
  readonly icon: IconName;
  readonly Content: ComponentType;
  /** A hook that gives the number on its tab; 0 for none. */
  readonly useCount?: () => number;
}

export const PANELS: readonly Panel[] = [
  { id: "result", title: "panel.result", icon: "image", Content: ResultPanel },
  { id: "queue", title: "panel.queue", icon: "queue", Content: QueuePanel, useCount: useQueueCount },
  { id: "history", title: "panel.history", icon: "clock", Content: HistoryPanel },
  { id: "plan", title: "panel.plan", icon: "steps", Content: PlanPanel },
  { id: "problems", title: "panel.problems", icon: "alert", Content: ProblemsPanel, useCount: useProblemCount },
  { id: "list", title: "panel.list", short: "panel.listShort", icon: "list", Content: ListPanel },
];
