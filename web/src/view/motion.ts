/** How the canvas moves of itself. */

const still = matchMedia("(prefers-reduced-motion: reduce)");

/** So many milliseconds; none for those who want no motion. */
export const calm = (milliseconds: number): number => (still.matches ? 0 : milliseconds);

/** All of a graph in view, clear of what lies on the canvas' corners. */
export const FIT = { padding: { x: "28px", y: "56px" }, maxZoom: 1 } as const;
