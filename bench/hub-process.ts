/** A hub in a process of its own, for `hub.ts`: tells its address, and its CPU time whenever it is asked. */
import { startTestHub } from '../test/support/test-hub.ts';

const hub = await startTestHub();
process.on('message', () => process.send?.({ cpu: process.cpuUsage() }));
process.on('disconnect', () => process.exit());
process.send?.({ url: hub.url });
