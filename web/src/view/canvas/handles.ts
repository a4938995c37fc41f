/** Names of the handles by which React Flow knows sockets. */

export const inputHandle = (name: string): string => `in:${name}`;
export const outputHandle = (index: number | string): string => `out:${index}`;
export const handleName = (handle: string): string => handle.slice(handle.indexOf(":") + 1);
