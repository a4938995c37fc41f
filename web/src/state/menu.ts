/** The context menu: where it is open, and for what. */

import { create } from "zustand";
import type { Port } from "../model/subgraphs";

export interface Menu {
  /** On the screen. */
  readonly at: { readonly x: number; readonly y: number };
  /** The link that it is for; otherwise it is for the selected nodes, or for the canvas where none is. */
  readonly link?: {
    readonly ends: readonly Port[];
    /** It crosses the edge of a sub-graph. */
    readonly crosses: boolean;
  };
}

export const useMenu = create<{ readonly menu: Menu | null }>()(() => ({ menu: null }));

/** The node whose title is being edited. */
export const useNaming = create<{ readonly id: string | null }>()(() => ({ id: null }));

/** The note whose text is being written. */
export const useWriting = create<{ readonly id: string | null }>()(() => ({ id: null }));
