/** Every edit of the document. A new one is a function that gives a `Command`, in a file of its kind, listed here. */

export * from "./command";
export * from "./nodes";
export * from "./links";
export * from "./values";
export * from "./clipboard";
export * from "./items";
export * from "./look";
export * from "./wires";
export * from "./arrange";
export * from "./subgraphs";
export * from "./parameters";
export * from "./ports";
export * from "./modes";
