import type { WidgetProps } from "./props";

export function BooleanWidget({ value, label, set }: WidgetProps) {
  return (
    <input
      type="checkbox"
      role="switch"
      className="switch nodrag"
      aria-label={label}
      checked={value === true}
      onChange={(event) => set(event.target.checked)}
    />
  );
}
