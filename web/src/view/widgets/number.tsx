import { useRef, useState, type KeyboardEvent, type PointerEvent } from "react";
import { controlOf, setControl, type Control } from "../../model/commands";
import { big, clampNumber, clampWhole, parseNumber, parseWhole, randomWhole, stepNumber, whole } from "../../model/numbers";
import { edit, gesture } from "../../state/document";
import { t } from "../../strings";
import { Icon } from "../icons";
import type { WidgetProps } from "./props";

interface Field {
  readonly label: string;
  readonly text: string;
  /** Take what was typed; what is no number is given up. */
  readonly commit: (text: string) => void;
  /** Step from what the field says, which may not have been taken yet. */
  readonly step: (count: number, from: string) => void;
}

/** How far the pointer moves before it drags, and for one step, in pixels. */
const THRESHOLD = 4;
const PER_STEP = 6;

/** A field whose text is its own while it is edited. Arrow keys and dragging sideways step, with Shift by ten. */
function NumberField({ label, text, commit, step }: Field) {
  const [draft, setDraft] = useState<string | null>(null);
  function press(event: KeyboardEvent<HTMLInputElement>): void {
    const count = event.shiftKey ? 10 : 1;
    if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      setDraft(null);
      step(event.key === "ArrowUp" ? count : -count, event.currentTarget.value);
      event.preventDefault();
    } else if (event.key === "Enter") {
      if (draft !== null) commit(draft);
      setDraft(null);
      event.currentTarget.select();
    } else if (event.key === "Escape") {
      setDraft(null);
    }
  }
  const drag = useRef<{ x: number; moving: boolean } | null>(null);
  function down(event: PointerEvent<HTMLInputElement>): void {
    // A finger pans, and in a field that is being typed in the pointer marks text.
    if (event.button !== 0 || event.pointerType === "touch" || document.activeElement === event.currentTarget) return;
    event.currentTarget.setPointerCapture(event.pointerId);
    drag.current = { x: event.clientX, moving: false };
  }
  function move(event: PointerEvent<HTMLInputElement>): void {
    const now = drag.current;
    if (!now) return;
    if (!now.moving) {
      if (Math.abs(event.clientX - now.x) < THRESHOLD) return;
      now.moving = true;
      gesture(true);
    }
    const count = Math.trunc((event.clientX - now.x) / PER_STEP);
    if (!count) return;
    now.x += count * PER_STEP;
    step(event.shiftKey ? count * 10 : count, event.currentTarget.value);
  }
  function release(event: PointerEvent<HTMLInputElement>): void {
    const now = drag.current;
    drag.current = null;
    if (!now) return;
    if (now.moving) gesture(false);
    else if (event.type === "pointerup") {
      event.currentTarget.focus();
      event.currentTarget.select();
    }
  }
  return (
    <input
      className="field number nodrag"
      onPointerDown={down}
      onPointerMove={move}
      onPointerUp={release}
      onPointerCancel={release}
      onMouseDown={(event) => drag.current && event.preventDefault()}
      inputMode="decimal"
      autoComplete="off"
      spellCheck={false}
      aria-label={label}
      value={draft ?? text}
      onChange={(event) => setDraft(event.target.value)}
      onBlur={() => {
        if (draft !== null) commit(draft);
        setDraft(null);
      }}
      onKeyDown={press}
    />
  );
}

export function IntegerWidget({ node, input, value, label, set }: WidgetProps) {
  const current = whole(typeof value === "bigint" ? value : BigInt(Math.trunc(Number(value) || 0)));
  const min = input.min === undefined ? undefined : whole(big(input.min));
  const max = input.max === undefined ? undefined : whole(big(input.max));
  const step = BigInt(Math.max(1, Math.trunc(input.step ?? 1)));
  const field = (
    <NumberField
      label={label}
      text={String(value)}
      commit={(text) => {
        const typed = parseWhole(text);
        if (typed !== null) set(clampWhole(typed, min, max));
      }}
      step={(count, from) => set(clampWhole(whole(big(parseWhole(from) ?? current) + step * BigInt(count)), min, max))}
    />
  );
  if (!input.control) return field;
  const control = controlOf(node, input.name);
  return (
    <>
      {field}
      <button
        className="plain nodrag"
        title={t("widget.randomize", { name: input.name })}
        aria-label={t("widget.randomize", { name: label })}
        onClick={() => set(randomWhole(max ?? 2n ** 64n - 1n))}
      >
        <Icon name="dice" />
      </button>
      <select
        className="field control nodrag"
        aria-label={t("widget.control", { name: label })}
        title={t("widget.control", { name: input.name })}
        value={control}
        onChange={(event) => edit(setControl(node.id, input.name, event.target.value as Control))}
      >
        {(["fixed", "increment", "decrement", "randomize"] as const).map((kind) => (
          <option key={kind} value={kind}>
            {t(`control.${kind}`)}
          </option>
        ))}
      </select>
    </>
  );
}

export function FloatWidget({ input, value, label, set }: WidgetProps) {
  const current = Number(value) || 0;
  const min = input.min === undefined ? undefined : Number(input.min);
  const max = input.max === undefined ? undefined : Number(input.max);
  return (
    <NumberField
      label={label}
      text={String(value)}
      commit={(text) => {
        const typed = parseNumber(text);
        if (typed !== null) set(clampNumber(typed, min, max));
      }}
      step={(count, from) => set(clampNumber(stepNumber(parseNumber(from) ?? current, input.step ?? 0.1, count), min, max))}
    />
  );
}
