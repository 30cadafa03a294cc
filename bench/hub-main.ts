/** `npm run bench:hub`: the hub's figures alone, without a GPU: what it adds to a token, and how it stands a crowd. */
import { benchFrontends } from './frontends.ts';
import { benchHub } from './hub.ts';
import { benchHubScale } from './hub-scale.ts';
import { loadLine, surroundings } from './machine.ts';

console.log(`${surroundings()}\n`);
const only = ['--scale', '--dynamo'].find((flag) => process.argv.includes(flag)) ?? null;
if (only !== '--scale') console.log(await benchFrontends(only === '--dynamo'));
if (only === null) console.log(await benchHub());
if (only !== '--dynamo') console.log(await benchHubScale());
console.log(loadLine('at the end'));
