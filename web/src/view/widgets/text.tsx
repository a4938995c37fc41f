import type { WidgetProps } from "./props";

export function TextWidget({ value, label, set }: WidgetProps) {
  return (
    <input
      className="field nodrag"
      aria-label={label}
      value={String(value ?? "")}
      onChange={(event) => set(event.target.value)}
    />
  );
}

/** Text of several lines; the field grows with it. */
export function MultilineWidget({ input, value, label, set }: WidgetProps) {
  return (
    <textarea
      className="field text nodrag nowheel"
      aria-label={label}
      rows={2}
      placeholder={input.name}
      value={String(value ?? "")}
      onChange={(event) => set(event.target.value)}
    />
  );
}
