import fc from "fast-check";
import { expect, test } from "vitest";
import { movesFor, type Waiting } from "../../src/model/queue";

/** As the server orders them: by number, and by when they were posted. */
function applied(waiting: readonly Waiting[], moves: ReturnType<typeof movesFor>): string[] {
  const numbers = new Map(waiting.map(({ id, priority }) => [id, priority]));
  for (const { id, place } of moves) numbers.set(id, "front" in place ? Math.min(0, ...numbers.values()) - 1 : place.number);
  const posted = waiting.map(({ id }) => id).sort((one, other) => Number(one) - Number(other));
  return posted.sort((one, other) => (numbers.get(one) as number) - (numbers.get(other) as number));
}

test("a job comes to its new place, whatever numbers the others have", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: -3, max: 3 }), { minLength: 1, maxLength: 7 }), fc.nat(6), fc.nat(6), (numbers, from, to) => {
      const waiting = numbers.map((priority, index) => ({ id: String(index), priority })).sort((one, other) => one.priority - other.priority);
      const wanted = waiting.map(({ id }) => id);
      if (from < wanted.length && to < wanted.length) wanted.splice(to, 0, ...wanted.splice(from, 1));
      expect(applied(waiting, movesFor(waiting, from, to))).toEqual(wanted);
    }),
  );
});

test("one move is enough where there is room", () => {
  const waiting = [1, 2, 3].map((priority) => ({ id: String(priority), priority }));
  expect(movesFor(waiting, 0, 1)).toEqual([{ id: "1", place: { number: 2.5 } }]);
  expect(movesFor(waiting, 0, 2)).toEqual([{ id: "1", place: { number: 4 } }]);
  expect(movesFor(waiting, 2, 0)).toEqual([{ id: "3", place: { front: true } }]);
  expect(movesFor(waiting, 1, 1)).toEqual([]);
});
