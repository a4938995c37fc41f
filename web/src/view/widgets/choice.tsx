import { useEffect, useLayoutEffect, useRef, useState, type KeyboardEvent } from "react";
import { createPortal } from "react-dom";
import { t } from "../../strings";
import type { WidgetProps } from "./props";

/** From this many on, choices are searched. */
const MANY = 9;

/** One of several. A value that is not among them is shown, so that it can be seen what the workflow asks for. */
export function ChoiceWidget(props: WidgetProps) {
  const { input, value, label, set } = props;
  const options = input.options ?? [];
  if (options.length >= MANY) return <SearchedChoice {...props} />;
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

function SearchedChoice({ input, value, label, set }: WidgetProps) {
  const button = useRef<HTMLButtonElement>(null);
  const [open, setOpen] = useState(false);
  const current = String(value ?? "");
  function close(chosen?: string): void {
    if (chosen !== undefined) set(chosen);
    setOpen(false);
    button.current?.focus({ preventScroll: true });
  }
  return (
    <>
      <button
        ref={button}
        className="field choice nodrag"
        role="combobox"
        aria-haspopup="listbox"
        aria-expanded={open}
        aria-label={label}
        title={current}
        onClick={() => setOpen(true)}
        onKeyDown={(event) => {
          if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
          event.preventDefault();
          // The arrow keys move a selected node.
          event.stopPropagation();
          setOpen(true);
        }}
      >
        {current}
      </button>
      {open && createPortal(<Choices options={input.options ?? []} current={current} label={label} anchor={button.current} close={close} />, document.body)}
    </>
  );
}

interface ChoicesProps {
  readonly options: readonly string[];
  readonly current: string;
  readonly label: string;
  readonly anchor: HTMLElement | null;
  readonly close: (chosen?: string) => void;
}

/** The choices under their field, those that have every word of what is typed. */
function Choices({ options, current, label, anchor, close }: ChoicesProps) {
  const [query, setQuery] = useState("");
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const found = options.filter((option) => words.every((word) => option.toLowerCase().includes(word)));
  const [chosen, setChosen] = useState(Math.max(0, options.indexOf(current)));
  const box = useRef<HTMLDivElement>(null);
  const list = useRef<HTMLUListElement>(null);
  useLayoutEffect(() => {
    const field = anchor?.getBoundingClientRect();
    const own = box.current;
    if (!field || !own) return;
    const width = Math.max(220, field.width);
    own.style.width = `${width}px`;
    own.style.left = `${Math.max(8, Math.min(field.left, innerWidth - width - 8))}px`;
    const below = field.bottom + 4;
    own.style.top = `${below + own.offsetHeight < innerHeight - 8 ? below : Math.max(8, field.top - own.offsetHeight - 4)}px`;
  }, [anchor]);
  useEffect(() => {
    list.current?.children[chosen]?.scrollIntoView({ block: "nearest" });
  }, [chosen]);
  function press(event: KeyboardEvent): void {
    event.stopPropagation();
    if (event.key === "Escape" || event.key === "Tab") close();
    else if (event.key === "Enter") close(found[chosen]);
    else if (event.key === "ArrowDown") setChosen(Math.min(chosen + 1, found.length - 1));
    else if (event.key === "ArrowUp") setChosen(Math.max(chosen - 1, 0));
    else return;
    event.preventDefault();
  }
  return (
    <div className="veil" onPointerDown={(event) => event.target === event.currentTarget && close()}>
      <div className="search choices" role="dialog" aria-label={label} ref={box}>
        <input
          autoFocus
          role="combobox"
          aria-expanded="true"
          aria-controls="choices"
          aria-activedescendant={found.length ? `choice-${chosen}` : undefined}
          aria-label={t("choice.search", { label })}
          placeholder={t("choice.placeholder", { count: options.length })}
          value={query}
          onChange={(event) => {
            setQuery(event.target.value);
            setChosen(0);
          }}
          onKeyDown={press}
        />
        <ul id="choices" role="listbox" aria-label={label} ref={list}>
          {found.map((option, index) => (
            <li
              key={option}
              id={`choice-${index}`}
              role="option"
              aria-selected={index === chosen}
              data-current={option === current || undefined}
              onPointerMove={() => setChosen(index)}
              onClick={() => close(option)}
            >
              {option}
            </li>
          ))}
        </ul>
        {found.length === 0 && <p className="none">{t("choice.none")}</p>}
      </div>
    </div>
  );
}
