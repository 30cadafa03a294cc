/** `npm run bench:hub`: the hub's figures alone, without a GPU: what it adds to a token, how it stands a crowd, and what Dynamo's frontend takes beside it. */
import { benchFrontends } from './frontends.ts';
import { benchHub } from './hub.ts';
import { benchHubScale } from './hub-scale.ts';
import { loadLine, surroundings } from './machine.ts';

console.log(`${surroundings()}\n`);
const only = ['--scale', '--dynamo'].find((flag) => process.argv.includes(flag)) ?? null;
if (only === '--dynamo') {
  const streams = process.argv.find((arg) => arg.startsWith('--streams='))?.slice('--streams='.length);
  console.log(await benchFrontends(streams?.split(',').map(Number)));
} else {
  if (only === null) console.log(await benchHub());
  console.log(await benchHubScale());
}
console.log(loadLine('at the end'));
