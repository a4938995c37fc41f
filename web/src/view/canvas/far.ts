/** Whether the canvas is so far away that nodes are drawn as boxes. */

import { createContext } from "react";

/** Below this zoom a widget's text cannot be read. */
export const FAR = 0.4;

/** Below this one a title's neither. */
export const FARTHEST = 0.2;

export const Far = createContext(false);
