/** Times as people say them, in the language of the browser. */

import { t } from "../strings";

const RELATIVE = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const UNITS: readonly [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
  ["second", 1000],
];

/** How long ago something was. Both in milliseconds since the epoch. */
export function ago(time: number, now: number): string {
  const [unit, size] = UNITS.find(([, length]) => now - time >= length) ?? ["second", 1000];
  return RELATIVE.format(-Math.max(0, Math.floor((now - time) / size)), unit);
}

/** How long something took. */
export const spentText = (milliseconds: number): string =>
  milliseconds < 100 ? t("node.quick") : t("node.seconds", { seconds: (milliseconds / 1000).toFixed(1) });
