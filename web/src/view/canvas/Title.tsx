import { useNaming } from "../../state/menu";

interface TitleProps {
  readonly id: string;
  readonly className: string;
  readonly title: string;
  /** What the field is called. */
  readonly label: string;
  /** Shown by the pointer. */
  readonly hint?: string;
  readonly set: (title: string) => void;
}

/** A title that a double click, F2 or the menu makes a field. */
export function Title({ id, className, title, label, hint, set }: TitleProps) {
  const naming = useNaming((state) => state.id === id);
  const stop = () => useNaming.setState({ id: null });
  if (!naming)
    return (
      <span className={className} title={hint} onDoubleClick={() => useNaming.setState({ id })}>
        {title}
      </span>
    );
  return (
    <input
      className={`${className} naming nodrag`}
      autoFocus
      defaultValue={title}
      aria-label={label}
      onFocus={(event) => event.target.select()}
      onBlur={(event) => {
        if (event.target.value !== title) set(event.target.value);
        stop();
      }}
      onKeyDown={(event) => {
        if (event.key === "Enter") event.currentTarget.blur();
        if (event.key === "Escape") {
          event.currentTarget.value = title;
          stop();
        }
      }}
    />
  );
}
