/** What comes faster than it can be seen, taken together once a frame. */

/** Milliseconds after which it is taken all the same: a page that is not seen has no frames. */
const LONGEST = 250;

export interface Frames<T> {
  add(item: T): void;
  /** Take at once what has come. */
  flush(): void;
}

/** Calls `take` with all that came since the last frame, in order. */
export function perFrame<T>(take: (items: readonly T[]) => void): Frames<T> {
  let items: T[] = [];
  let frame = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  function flush(): void {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
    const all = items;
    items = [];
    if (all.length) take(all);
  }
  return {
    add(item) {
      if (!items.length) {
        frame = requestAnimationFrame(flush);
        timer = setTimeout(flush, LONGEST);
      }
      items.push(item);
    },
    flush,
  };
}
