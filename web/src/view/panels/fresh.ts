import { useCallback, useEffect, useState } from "react";
import { ServerError } from "../../api/client";
import { useRun } from "../../state/run";

/** A burst of messages is one reading. */
const PAUSE = 120;

interface Fresh<T> {
  /** Null until it was read for the first time. */
  readonly data: T | null;
  readonly error: string | null;
  readonly reload: () => void;
}

/** Something of the server's, read anew whenever its queue or history changed. `load` must keep its identity. */
export function useFresh<T>(load: () => Promise<T>): Fresh<T> {
  const changes = useRun((run) => run.changes);
  const [asked, setAsked] = useState(0);
  const [data, setData] = useState<T | null>(null);
  const [error, setError] = useState<string | null>(null);
  useEffect(() => {
    let over = false;
    const timer = setTimeout(() => {
      load().then(
        (found) => {
          if (over) return;
          setData(found);
          setError(null);
        },
        (reason: unknown) => {
          if (!(reason instanceof ServerError)) throw reason;
          if (!over) setError(reason.message);
        },
      );
    }, PAUSE);
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [changes, asked, load]);
  const reload = useCallback(() => setAsked((count) => count + 1), []);
  return { data, error, reload };
}
