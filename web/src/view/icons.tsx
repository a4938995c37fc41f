/** Line icons, 16 by 16, in the colour of the text around them. */

const PATHS = {
  play: "M5 3.2v9.6L12.6 8z",
  stop: "M4 4h8v8H4z",
  undo: "M6 3 3 6l3 3M3 6h6.5a3.5 3.5 0 0 1 0 7H6",
  redo: "M10 3l3 3-3 3M13 6H6.5a3.5 3.5 0 0 0 0 7H10",
  sun: "M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1",
  moon: "M13 9.5A5.5 5.5 0 0 1 6.5 3 5.5 5.5 0 1 0 13 9.5z",
  system: "M2 3h12v8H2zM6 14h4M8 11v3",
  help: "M6 6a2 2 0 1 1 2.8 1.9c-.6.3-.8.7-.8 1.4M8 12v.1",
  image: "M2 3h12v10H2zM2 11l3.5-3.5 3 3L11 8l3 3M10.5 6v.1",
  alert: "M8 2 14.5 13.5h-13zM8 6.5v3.2M8 11.7v.1",
  close: "M4 4l8 8M12 4l-8 8",
  dice: "M3 3h10v10H3zM6 6v.1M10 10v.1M10 6v.1M6 10v.1M8 8v.1",
  download: "M8 2v8M5 7l3 3 3-3M3 13h10",
  chevron: "M4 6l4 4 4-4",
  search: "M7 3a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM10 10l4 4",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg className="icon" viewBox="0 0 16 16" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
