/** Line icons, 16 by 16, in the colour of the text around them. */

const PATHS = {
  play: "M5 3.2v9.6L12.6 8z",
  stop: "M4 4h8v8H4z",
  undo: "M6 3 3 6l3 3M3 6h6.5a3.5 3.5 0 0 1 0 7H6",
  redo: "M10 3l3 3-3 3M13 6H6.5a3.5 3.5 0 0 0 0 7H10",
  sun: "M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1",
  moon: "M13 9.5A5.5 5.5 0 0 1 6.5 3 5.5 5.5 0 1 0 13 9.5z",
  system: "M2 3h12v8H2zM6 14h4M8 11v3",
  help: "M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8zM6.2 6.3a1.8 1.8 0 1 1 2.6 1.6c-.6.3-.8.6-.8 1.2M8 11.3v.1",
  image: "M2 3h12v10H2zM2 11l3.5-3.5 3 3L11 8l3 3M10.5 6v.1",
  alert: "M8 2 14.5 13.5h-13zM8 6.5v3.2M8 11.7v.1",
  close: "M4 4l8 8M12 4l-8 8",
  dice: "M4 2.5h8A1.5 1.5 0 0 1 13.5 4v8a1.5 1.5 0 0 1-1.5 1.5H4A1.5 1.5 0 0 1 2.5 12V4A1.5 1.5 0 0 1 4 2.5zM5.5 5.5v.1M10.5 10.5v.1M8 8v.1",
  download: "M8 2v8M5 7l3 3 3-3M3 13h10",
  chevron: "M4 6l4 4 4-4",
  list: "M2.5 4v.1M2.5 8v.1M2.5 12v.1M6 4h8M6 8h8M6 12h8",
  search: "M7 3a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM10 10l4 4",
  copy: "M6 6h7.5v7.5H6zM10 6V2.5H2.5V10H6",
  plus: "M8 3v10M3 8h10",
  pause: "M5.5 3.5v9M10.5 3.5v9",
  trash: "M3 4.5h10M6 4.5V3h4v1.5M4.5 4.5l.6 8.5h5.8l.6-8.5M7 7v3.5M9 7v3.5",
  up: "M8 13V3M4 7l4-4 4 4",
  down: "M8 3v10M4 9l4 4 4-4",
  queue: "M3 3h10v3H3zM3 10h10v3H3z",
  clock: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM8 5v3.2l2 1.8",
  expand: "M9.5 2.5h4v4M13.5 2.5 9 7M6.5 13.5h-4v-4M2.5 13.5 7 9",
  form: "M2.5 2.5h11v11h-11zM5 6h6M5 9h4",
  bolt: "M9 1.5 3.5 9H8l-1 5.5L12.5 7H8z",
  steps: "M2 3.5l1.2 1.2L5.5 2.5M2 8l1.2 1.2L5.5 7M2 12.5l1.2 1.2 2.3-2.2M8.5 4H14M8.5 8.3H14M8.5 12.6H14",
  pin: "M6 2.5h4l-.5 4 2.5 2.5H4l2.5-2.5zM8 9v4.5",
  info: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM8 7.2V11M8 5v.1",
  split: "M8 2v12M2.5 4h11v8h-11z",
  columns: "M2 3.5h5v9H2zM9 3.5h5v9H9z",
  left: "M10 3.5 5.5 8l4.5 4.5",
  right: "M6 3.5 10.5 8 6 12.5",
  edit: "M3 13l.6-2.8L10.5 3.3a1.2 1.2 0 0 1 1.7 0l.5.5a1.2 1.2 0 0 1 0 1.7L5.8 12.4z",
  "align-left": "M3 2v12M6 4h7v2.5H6zM6 9.5h4V12H6z",
  "align-centre": "M8 2v12M3.5 4h9v2.5h-9zM5.5 9.5h5V12h-5z",
  "align-right": "M13 2v12M3 4h7v2.5H3zM6 9.5h4V12H6z",
  "align-top": "M2 3h12M4 6h2.5v7H4zM9.5 6H12v4H9.5z",
  "align-middle": "M2 8h12M4 3.5h2.5v9H4zM9.5 5.5H12v5H9.5z",
  "align-bottom": "M2 13h12M4 3h2.5v7H4zM9.5 6H12v4H9.5z",
  "distribute-across": "M2.5 2v12M13.5 2v12M6.5 5h3v6h-3z",
  "distribute-down": "M2 2.5h12M2 13.5h12M5 6.5h6v3H5z",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg className="icon" viewBox="0 0 16 16" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
