/** Whole numbers of any size and their text: `number` where a double holds them, `bigint` beyond. */

export type Whole = number | bigint;

/** A whole number in its smallest form. */
export function whole(value: bigint): Whole {
  const plain = Number(value);
  return Number.isSafeInteger(plain) ? plain : value;
}

/** The whole number that a text says; null where it says none. */
export function parseWhole(text: string): Whole | null {
  const clean = text.trim();
  return /^[+-]?\d+$/.test(clean) ? whole(BigInt(clean.replace(/^\+/, ""))) : null;
}

/** The number that a text says; null where it says none. */
export function parseNumber(text: string): number | null {
  const clean = text.trim();
  const value = Number(clean);
  return clean !== "" && Number.isFinite(value) ? value : null;
}

export function big(value: Whole): bigint {
  return typeof value === "bigint" ? value : BigInt(Math.trunc(value));
}

/** The value moved into its range. */
export function clampWhole(value: Whole, min?: Whole, max?: Whole): Whole {
  const given = big(value);
  if (min !== undefined && given < big(min)) return min;
  if (max !== undefined && given > big(max)) return max;
  return whole(given);
}

export function clampNumber(value: number, min?: number, max?: number): number {
  return Math.min(max ?? Infinity, Math.max(min ?? -Infinity, value));
}

/** `value` with `count` steps added, without the dust that binary fractions leave. */
export function stepNumber(value: number, step: number, count: number): number {
  return Number((value + step * count).toPrecision(12));
}

/** A random whole number from 0 to `max`, both included. */
export function randomWhole(max: Whole): Whole {
  const bits = new BigUint64Array(1);
  crypto.getRandomValues(bits);
  return whole((bits[0] ?? 0n) % (big(max) + 1n));
}
