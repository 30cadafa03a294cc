/** `npm run bench:router`: the router's figures alone, without a GPU. */
import { loadLine, surroundings } from './machine.ts';
import { benchRouter } from './router.ts';

console.log(`${surroundings()}\n`);
console.log(await benchRouter());
console.log(loadLine('at the end'));
