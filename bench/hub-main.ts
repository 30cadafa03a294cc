/** `npm run bench:hub`: the hub's figures alone, without a GPU: what it adds to a token, and how it stands a crowd. `-- --scale`: the crowd alone. */
import { benchHub } from './hub.ts';
import { benchHubScale } from './hub-scale.ts';
import { loadLine, surroundings } from './machine.ts';

console.log(`${surroundings()}\n`);
if (!process.argv.includes('--scale')) console.log(await benchHub());
console.log(await benchHubScale());
console.log(loadLine('at the end'));
