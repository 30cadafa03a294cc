/** `npm run bench:dynamo`: the same load through Dynamo's frontend with its mocker, with a hub's bridge, and through the hub alone; `-- --streams=256` for one row. Needs Linux, and installs Dynamo where it is not. */
import { installDynamo } from '../scripts/dynamo-venv.ts';
import { benchDynamo } from './dynamo.ts';
import { loadLine, surroundings } from './machine.ts';

// Children are killed when this process exits, which it does by itself but for signals.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1));
const streams = process.argv.find((arg) => arg.startsWith('--streams='))?.slice('--streams='.length) ?? '1,32,256';
try {
  installDynamo();
} catch (error) {
  console.error((error as Error).message);
  process.exit(2);
}
console.log(`${surroundings()}\n`);
console.log(await benchDynamo(streams.split(',').map(Number)));
console.log(loadLine('at the end'));
