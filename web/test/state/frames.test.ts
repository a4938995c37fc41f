import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { perFrame } from "../../src/state/frames";

let frames: (() => void)[] = [];

beforeEach(() => {
  vi.useFakeTimers();
  frames = [];
  vi.stubGlobal("requestAnimationFrame", (call: () => void) => frames.push(call));
  vi.stubGlobal("cancelAnimationFrame", (id: number) => (frames[id - 1] = () => {}));
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function draw(): void {
  for (const call of frames.splice(0)) call();
}

test("what comes within a frame is taken together, in order", () => {
  const taken: (readonly number[])[] = [];
  const { add } = perFrame<number>((items) => taken.push(items));
  for (let item = 0; item < 100; item++) add(item);
  expect(frames.length).toBe(1);
  expect(taken).toEqual([]);
  draw();
  add(100);
  draw();
  vi.runAllTimers();
  expect(taken).toEqual([Array.from({ length: 100 }, (_, item) => item), [100]]);
});

test("without frames it is taken after a while, and once", () => {
  const taken: (readonly string[])[] = [];
  const { add } = perFrame<string>((items) => taken.push(items));
  add("a");
  vi.advanceTimersByTime(300);
  expect(taken).toEqual([["a"]]);
  draw();
  expect(taken).toEqual([["a"]]);
});

test("what was added while it is taken comes with the next frame", () => {
  const taken: (readonly number[])[] = [];
  const { add, flush } = perFrame<number>((items) => {
    taken.push(items);
    if (items[0] === 1) add(2);
  });
  add(1);
  flush();
  expect(taken).toEqual([[1]]);
  draw();
  expect(taken).toEqual([[1], [2]]);
});
