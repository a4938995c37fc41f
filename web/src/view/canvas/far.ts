/** Whether the canvas is so far away that nodes are drawn as boxes. */

import { createContext } from "react";

/** Below this zoom a widget's text cannot be read. */
export const FAR = 0.4;

export const Far = createContext(false);
