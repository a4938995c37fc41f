/** The order of jobs that wait: what the server is told so that one of them gets another place. */

export interface Waiting {
  readonly id: string;
  /** Lower runs first; of equal ones that which was posted first. */
  readonly priority: number;
}

export interface Move {
  readonly id: string;
  readonly place: { readonly front: true } | { readonly number: number };
}

/** The moves that bring the job at `from` to `to`, both counted from the front. More than one only where no number is left between its new neighbours. */
export function movesFor(waiting: readonly Waiting[], from: number, to: number): Move[] {
  const job = waiting[from];
  if (!job || from === to || to < 0 || to >= waiting.length) return [];
  if (to === 0) return [{ id: job.id, place: { front: true } }];
  const others = waiting.filter((one) => one !== job);
  const before = others[to - 1]?.priority ?? 0;
  const after = others[to]?.priority ?? Infinity;
  const number = after === Infinity ? before + 1 : (before + after) / 2;
  if (number > before && number < after) return [{ id: job.id, place: { number } }];
  return [job, ...others.slice(to)].map(({ id }, index) => ({ id, place: { number: before + 1 + index } }));
}
