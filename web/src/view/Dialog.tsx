import { useLayoutEffect, useRef, type ReactNode } from "react";

/** A modal dialog: Escape and a click beside it close it, and the focus goes back to where it was. */
export function Dialog(props: { label: string; className: string; onClose: () => void; children: ReactNode }) {
  const ref = useRef<HTMLDialogElement>(null);
  // Closed before it is taken away: only then does the focus go back.
  useLayoutEffect(() => {
    const dialog = ref.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  return (
    <dialog
      ref={ref}
      className={props.className}
      aria-label={props.label}
      onClose={props.onClose}
      onClick={(event) => event.target === ref.current && props.onClose()}
    >
      {props.children}
    </dialog>
  );
}
