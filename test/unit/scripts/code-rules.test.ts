import { expect, test } from 'vitest';
import { breaches } from '../../../scripts/code-rules.ts';

/** Kept apart from its `from`: the rules read this file too. */
const NO_EXTENSION = "'./b'";
const check = (path: string, text: string) => breaches([{ path, text }]);

test.each([
  ['src/protocol/a.ts', "import { x } from '../engine/api.ts';"],
  ['src/protocol/a.ts', "import ws from 'ws';"],
  ['src/config/a.ts', "import fs from 'node:fs';"],
  ['src/engine/a.ts', "import type { X } from '../frontend/api.ts';"],
  ['src/engine/a.ts', "import type { X } from '../node/link.ts';"],
  ['src/engine/kv/a.ts', "import type { X } from '../../hub/hub.ts';"],
  ['src/engine/a.ts', "export { X } from '../ui/state.ts';"],
  ['src/engine/a.ts', "import { Hono } from 'hono';"],
  ['src/engine/a.ts', "const x = await import('ws');"],
  ['src/frontend/a.ts', "import { x } from '../engine/api.ts';"],
  ['src/frontend/a.ts', "import 'node:crypto';"],
  ['src/node/a.ts', "import { x } from '../ui/state.ts';"],
  ['src/hub/a.ts', "import { x } from '../node/link.ts';"],
  ['src/hub/a.ts', "import { x } from '../engine/gpu/device.ts';"],
  ['src/hub/a.ts', "import { x } from '../dynamo/bridge.ts';"],
  ['src/dynamo/a.ts', "import { x } from '../hub/hub.ts';"],
  ['src/ui/a.tsx', "import { x } from '../hub/hub.ts';"],
  ['src/hub/a.ts', "import {\n  x,\n} from '../../test/support/y.ts';"],
  ['src/hub/a.ts', `import { x } from ${NO_EXTENSION};`],
  ['src/newcomer/a.ts', "import { x } from '../engine/api.ts';"],
  ['src/ui/a.tsx', 'const shader = `@compute @workgroup_size(64) fn main() {}`;'],
  ['bench/a.ts', "const line = 'var<storage> x: array<f32>;'"],
  ['shaders/a.wgsl', 'x\n'.repeat(401)],
])('%s may not hold %j', (path, text) => {
  const found = check(path, text);
  expect(found).toHaveLength(1);
  expect(found[0]).toMatch(new RegExp(`^${path}:`));
});

test.each([
  ['src/engine/a.ts', "import { x } from '../protocol/generate.ts';\nimport { y } from '../config/table.ts';"],
  ['src/node/a.ts', "import { x } from '../engine/api.ts';\nimport { y } from '../frontend/api.ts';"],
  ['src/hub/launch/a.ts', "import { x } from '../../engine/model/config.ts';\nimport fs from 'node:fs';"],
  ['src/hub/dynamo-bridge.ts', "import { x } from '../dynamo/bridge.ts';"],
  [
    'src/ui/a.tsx',
    "import { x } from '../node/snapshot.ts';\nimport { signal } from '@preact/signals';\nimport './styles.css';",
  ],
  ['src/ui/a.ts', "new Worker(new URL('../worker.ts', import.meta.url));"],
  ['src/worker.ts', "import { x } from './node/link.ts';"],
  ['scripts/a.ts', "new URL('..', import.meta.url);"],
  ['test/gpu/a.test.ts', "const line = 'var<storage> x: array<f32>;'"],
  ['shaders/a.wgsl', 'x\n'.repeat(400)],
])('%s may hold %j', (path, text) => {
  expect(check(path, text)).toEqual([]);
});
