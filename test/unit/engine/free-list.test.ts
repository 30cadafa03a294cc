import fc from 'fast-check';
import { expect, it } from 'vitest';
import { FreeList } from '../../../src/engine/kv/free-list.ts';

const operation = fc.record({
  kind: fc.constantFrom('popFront', 'pushFront', 'pushBack', 'remove'),
  id: fc.integer({ min: 0, max: 9 }),
});

it('behaves like an array', () => {
  fc.assert(
    fc.property(fc.shuffledSubarray([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), fc.array(operation), (order, operations) => {
      const list = new FreeList(10, order);
      const model = [...order];
      for (const { kind, id } of operations) {
        const at = model.indexOf(id);
        if (kind === 'popFront') expect(list.popFront()).toBe(model.shift() ?? -1);
        else if (kind === 'remove') {
          if (at < 0) expect(() => list.remove(id)).toThrow();
          else {
            list.remove(id);
            model.splice(at, 1);
          }
        } else if (at >= 0) expect(() => list[kind](id)).toThrow();
        else {
          list[kind](id);
          model[kind === 'pushFront' ? 'unshift' : 'push'](id);
        }
        expect(list.size).toBe(model.length);
      }
      for (const id of model) expect(list.popFront()).toBe(id);
      expect(list.popFront()).toBe(-1);
    }),
  );
});

it('takes only an order of known ids, each once', () => {
  expect(() => new FreeList(2, [0, 2])).toThrow('block 2');
  expect(() => new FreeList(2, [1, 1])).toThrow('block 1');
});
