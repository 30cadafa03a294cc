import { createHash } from 'node:crypto';
import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { modelSpec } from '../../../src/engine/model/config.ts';
import { COMMIT, cutAfter, statusWith } from '../../support/model-source.ts';
import { safetensorsFile, tensorsFor } from '../../support/safetensors-file.ts';
import {
  fetchTiny,
  folderOf,
  headerBytes,
  lines,
  pauses,
  refusal,
  small,
  source,
  weightBytes,
  weights,
} from './fetching.ts';

const MIB = 1024 * 1024;
const spec = modelSpec(JSON.parse(small['config.json'].toString()));

describe('a model by name', () => {
  test('comes once, with the files that pages need, and is a folder from then on', async () => {
    const { folder, hashes } = await fetchTiny();
    expect(folder).toBe(folderOf());
    expect((await readdir(folder)).sort()).toEqual([
      '.quire.json',
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    expect((await readFile(path.join(folder, 'model.safetensors'))).equals(weights)).toBe(true);
    expect(hashes.get('model.safetensors')).toBe(createHash('sha256').update(weights).digest('hex'));
    expect(weightBytes()).toBe(headerBytes + weights.length);
    expect(lines[0]).toMatch(/^org\/tiny: there is no such folder, so 127\.0\.0\.1:\d+ is asked$/);
    expect(lines[1]).toMatch(/^org\/tiny: 11\.5 MB of weights, commit c0ffee0+, into \//);
    expect(lines.at(-1)).toMatch(/^org\/tiny: all 11\.5 MB are here and checked, after \d+\.\d s$/);

    source.asked.length = 0;
    expect(await fetchTiny()).toEqual({ folder, hashes });
    expect(source.asked.map(({ path }) => path)).toEqual(['/api/models/org/tiny/revision/main']);
    expect(lines.at(-1)).toBe(`org/tiny: commit ${COMMIT} is here already, in ${folder}`);
  });

  test('that is here, by its commit, needs no network', async () => {
    const first = await fetchTiny({ revision: COMMIT });
    source.asked.length = 0;
    expect(await fetchTiny({ revision: COMMIT })).toEqual(first);
    expect(source.asked).toEqual([]);
  });

  test('in shards: the index is read, other weight files are left where they are', async () => {
    const tensors = Object.entries(tensorsFor(spec, 'BF16'));
    const shards = {
      'a.safetensors': Buffer.from(safetensorsFile(Object.fromEntries(tensors.slice(0, 9)))),
      'b.safetensors': Buffer.from(safetensorsFile(Object.fromEntries(tensors.slice(9)))),
    };
    const weight_map = Object.fromEntries(
      tensors.map(([name], i) => [name, i < 9 ? 'a.safetensors' : 'b.safetensors']),
    );
    source.files.delete('model.safetensors');
    for (const [name, bytes] of Object.entries(shards)) source.files.set(name, bytes);
    source.files.set('model.safetensors.index.json', Buffer.from(JSON.stringify({ weight_map })));
    source.files.set('consolidated.safetensors', weights);
    const { folder } = await fetchTiny();
    for (const [name, bytes] of Object.entries(shards))
      expect((await readFile(path.join(folder, name))).equals(bytes)).toBe(true);
    expect(source.asks('consolidated')).toEqual([]);
  });

  test('tells bytes, rate and time left while it comes', async () => {
    let at = 0;
    await fetchTiny({ now: () => (at += 1000) });
    const told = lines.filter((line) => line.includes('left'));
    expect(told[0]).toMatch(/^org\/tiny: [\d.]+ [kM]B of 11\.5 MB \(\d+ %\), [\d.]+ [kM]B\/s, \d+ (s|min) left$/);
  });
});

describe('a broken download', () => {
  test('goes on where it broke, in the same start', async () => {
    const cut = cutAfter(weights, 3 * MIB);
    source.instead.push({ path: '/model.safetensors', answer: statusWith(503) });
    await fetchTiny();
    expect(pauses).toHaveLength(1);
    await rm(folderOf(), { recursive: true });
    source.asked.length = 0;
    const cdn = source.cdnHost;
    // The header's two requests come first, each over the hub to the CDN.
    const headerAsks = 2;
    let seen = 0;
    const watch = { path: '/model.safetensors', answer: cut };
    const push = source.asked.push.bind(source.asked);
    source.asked.push = (asked) => {
      if (asked.server === 'cdn' && ++seen === headerAsks + 1) source.instead.push(watch);
      return push(asked);
    };
    await fetchTiny({ allowed: [cdn] });
    const body = source.asks('signed').slice(headerAsks);
    expect(body).toHaveLength(2);
    expect(body[0]?.range).toBeUndefined();
    const resumedAt = Number(/^bytes=(\d+)-$/.exec(body[1]?.range ?? '')?.[1]);
    expect(resumedAt).toBeGreaterThan(0);
    expect(resumedAt).toBeLessThanOrEqual(3 * MIB);
    expect(body[1]?.bytes).toBe(weights.length - resumedAt);
    expect(lines.some((line) => /^model\.safetensors: .*; try 1 of 5 in /.test(line))).toBe(true);
  });

  test('goes on behind what an earlier start left', async () => {
    await fetchTiny();
    const part = path.join(folderOf(), 'model.safetensors');
    await rm(path.join(folderOf(), '.quire.json'));
    await rm(part);
    await writeFile(`${part}.part`, weights.subarray(0, 5 * MIB));
    source.asked.length = 0;
    const { folder } = await fetchTiny();
    expect((await readFile(path.join(folder, 'model.safetensors'))).equals(weights)).toBe(true);
    expect(weightBytes()).toBe(headerBytes + weights.length - 5 * MIB);
    expect(source.asks('signed').at(-1)?.range).toBe(`bytes=${5 * MIB}-`);
    expect(lines.some((line) => line.includes('5.2 MB of it here already'))).toBe(true);
  });

  test('of a server without ranges is read from the start, and kept from where it was', async () => {
    await fetchTiny();
    const target = path.join(folderOf(), 'model.safetensors');
    await rm(path.join(folderOf(), '.quire.json'));
    await rm(target);
    await writeFile(`${target}.part`, weights.subarray(0, 5 * MIB));
    let asks = 0;
    const push = source.asked.push.bind(source.asked);
    source.asked.push = (asked) => {
      if (asked.server === 'cdn' && ++asks === 3)
        source.instead.push({ path: '/model.safetensors', answer: (_, response) => void response.end(weights) });
      return push(asked);
    };
    const { folder } = await fetchTiny();
    expect((await readFile(path.join(folder, 'model.safetensors'))).equals(weights)).toBe(true);
  });

  test('from such a server has its header read all the same', async () => {
    const whole = {
      path: '/model.safetensors',
      answer: (_: unknown, response: ServerResponse) => void response.end(weights),
    };
    let asks = 0;
    const push = source.asked.push.bind(source.asked);
    source.asked.push = (asked) => {
      if (asked.server === 'cdn' && ++asks <= 2) source.instead.push(whole);
      return push(asked);
    };
    await fetchTiny();
    expect(asks).toBe(3);
  });

  test.each([429, 503])('answered with %i and Retry-After waits so long', async (status) => {
    source.instead.push({ path: '/revision/main', answer: statusWith(status, { 'retry-after': '7' }) });
    await fetchTiny();
    expect(pauses).toEqual([7000]);
  });

  test('that shall wait for an hour ends the start, and says so', async () => {
    source.instead.push({ path: '/revision/main', answer: statusWith(429, { 'retry-after': '3600' }) });
    expect(await refusal()).toMatch(/answered 429, and the server asks to come back in 3600 s/);
    expect(pauses).toEqual([]);
  });

  test('that never comes ends after five more tries, each later than the one before', async () => {
    for (let i = 0; i < 6; i++) source.instead.push({ path: '/revision/main', answer: statusWith(500) });
    expect(await refusal()).toMatch(/failed 6 times in a row, last: .* answered 500/);
    expect(source.asked).toHaveLength(6);
    expect(pauses).toHaveLength(5);
    pauses.forEach((ms, i) => {
      expect(ms).toBeGreaterThanOrEqual(500 * 2 ** i);
      expect(ms).toBeLessThanOrEqual(1000 * 2 ** i);
    });
  });

  test('that stalls is broken off', async () => {
    source.instead.push({ path: '/revision/main', answer: () => {} });
    await fetchTiny({ stallMs: 100 });
    expect(lines[1]).toContain('nothing came for 100 ms');
  });
});

test('another hub that fetches the same model is not disturbed', async () => {
  await fetchTiny();
  await rm(path.join(folderOf(), '.quire.json'));
  await writeFile(path.join(folderOf(), '.lock'), String(process.ppid));
  expect(await refusal()).toMatch(new RegExp(`Another hub \\(process ${process.ppid}\\) is fetching`));
  // One that died left its lock.
  await writeFile(path.join(folderOf(), '.lock'), '2147483646');
  await fetchTiny();
  expect(await stat(path.join(folderOf(), '.lock')).catch(() => null)).toBeNull();
});
