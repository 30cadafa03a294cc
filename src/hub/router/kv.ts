import { costsOf, softmax } from './cost.ts';
import { least, type RouterMode } from './mode.ts';

/** The rank of least cost: prefix cache, load and measured rates weighed together. random: uniform in [0, 1). */
export function kvMode(random: () => number): RouterMode {
  return {
    choose(choice, knobs) {
      const costs = costsOf(choice, knobs);
      if (knobs.temperature === 0) return least(choice, costs);
      let drawn = random();
      const chosen = softmax([...costs], knobs.temperature).findIndex((chance) => {
        drawn -= chance;
        return drawn < 0;
      });
      return Math.max(0, chosen);
    },
  };
}
