import type { WidgetProps } from ".";

/** One of several. A value that is not among them is shown, so that it can be seen what the workflow asks for. */
export function ChoiceWidget({ input, value, label, set }: WidgetProps) {
  const options = input.options ?? [];
  const current = String(value ?? "");
  return (
    <select className="field nodrag" aria-label={label} value={current} onChange={(event) => set(event.target.value)}>
      {!options.includes(current) && <option value={current}>{current}</option>}
      {options.map((option) => (
        <option key={option} value={option}>
          {option}
        </option>
      ))}
    </select>
  );
}
