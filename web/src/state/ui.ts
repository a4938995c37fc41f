/** What the view shows around the document: panels, search, theme, messages. Nothing of it is saved with a workflow. */

import { create } from "zustand";
import type { Fitting } from "../model/search";
import type { ImageFile } from "../model/run";

export type Theme = "system" | "light" | "dark";

/** Where the search is open, and what the node that it adds is connected to. */
export interface Search {
  /** On the screen. */
  readonly at: { readonly x: number; readonly y: number };
  /** Where the new node is put matters to nobody: not over another, then. */
  readonly anywhere?: boolean;
  readonly fitting?: Fitting & { readonly node: string; readonly socket: string };
}

/** The link that is being drawn. */
export interface Drawing extends Fitting {
  readonly node: string;
  readonly socket: string;
}

export interface Offer {
  readonly label: string;
  run(): void;
}

interface UiState {
  readonly online: boolean;
  readonly panel: string | null;
  readonly search: Search | null;
  readonly help: boolean;
  readonly viewer: ImageFile | null;
  readonly drawing: Drawing | null;
  /** The node to bring into view; a new object each time that it is asked for. */
  readonly focus: { readonly node: string } | null;
  /** Counts the documents that were opened; each is shown as a whole. */
  readonly opened: number;
  readonly theme: Theme;
  readonly message: string | null;
  /** What the message offers to do. */
  readonly offer: Offer | null;
  /** The form of declared parameters is shown in place of the graph. */
  readonly app: boolean;
  /** A link to the workflow, where it could not be copied and is shown instead. */
  readonly link: string | null;
  /** A workflow on the server that changed since it was opened here, with the mark of what it is now. */
  readonly conflict: { readonly name: string; readonly mark: string } | null;
  /** Run whenever something changes. */
  readonly auto: boolean;
  show(panel: string | null): void;
  tell(message: string | null, offer?: Offer): void;
  setTheme(theme: Theme): void;
}

const THEME = "nodegraph.theme";

export const useUi = create<UiState>()((set) => ({
  online: true,
  panel: "result",
  search: null,
  help: false,
  viewer: null,
  drawing: null,
  focus: null,
  opened: 0,
  theme: storedTheme(),
  message: null,
  offer: null,
  app: false,
  link: null,
  conflict: null,
  auto: false,
  show: (panel) => set({ panel }),
  tell: (message, offer) => set({ message, offer: offer ?? null }),
  setTheme(theme) {
    localStorage.setItem(THEME, theme);
    set({ theme });
  },
}));

/** The search in the middle of the window. */
export function openSearch(): void {
  useUi.setState({ search: { anywhere: true, at: { x: innerWidth / 2 - 200, y: innerHeight / 5 } } });
}

/** The form of declared parameters in place of the graph, and back. */
export function toggleApp(): void {
  // The form shows what was made itself.
  useUi.setState(({ app, panel }) => ({ app: !app, search: null, panel: !app && panel === "result" ? null : panel }));
}

function storedTheme(): Theme {
  const stored = localStorage.getItem(THEME);
  return stored === "light" || stored === "dark" ? stored : "system";
}
