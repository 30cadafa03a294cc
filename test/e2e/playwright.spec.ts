import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { BROWSER, expect, ROOT, test } from './fixture.ts';

test.use(BROWSER);

test.describe('quire/playwright', () => {
  test.use({ quireFlags: ['--max-num-seqs', '4', '--api-key', 'k'] });

  test('a hub by its flags, and a node of it', async ({ quireHub, quireNode }) => {
    expect(quireHub).toMatchObject({ models: ['quire-pico'], apiKey: 'k' });
    expect(quireNode.adapter).toMatchObject({ software: true, name: expect.stringMatching(/swiftshader/i) });
    const ask = (headers: Record<string, string>) =>
      fetch(`${quireHub.url}/v1/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: JSON.stringify({ model: 'quire-pico', prompt: 'Once', max_tokens: 2 }),
      });
    expect((await ask({})).status).toBe(401);
    const answer = await ask({ authorization: 'Bearer k' });
    expect(answer.status).toBe(200);
    expect(answer.headers.get('x-quire-node')).toBe(quireNode.id);
    const state = (await (await fetch(`${quireHub.url}/cluster/state`)).json()) as { nodes: unknown[] };
    expect(state.nodes).toMatchObject([{ id: quireNode.id, card: { maxNumSeqs: 4 } }]);
    await expect(quireNode.page.getByTestId('stage')).toHaveAttribute('data-state', 'ready');
  });

  test('options of one page, and the words of one that cannot serve', async ({ quireHub }) => {
    const second = await quireHub.openNode({ 'max-num-seqs': '2' });
    const state = (await (await fetch(`${quireHub.url}/cluster/state`)).json()) as { nodes: unknown[] };
    expect(state.nodes).toMatchObject([{ id: second.id, card: { maxNumSeqs: 2 } }]);
    await expect(quireHub.openNode({ 'block-size': '8' })).rejects.toThrow('asks for ?block-size=8');
  });
});

const ON_CPU = `
import { expect, test } from 'quire/playwright';

test.use({ quireAdapter: 'software' });
test('answers', async ({ quireHub, quireNode, request }) => {
  const data = { model: quireHub.models[0], prompt: 'Once', max_tokens: 2 };
  const answer = await request.post(quireHub.url + '/v1/completions', { data });
  expect(answer.headers()['x-quire-node']).toBe(quireNode.id);
  expect(quireNode.adapter.software).toBe(true);
});
`;

const ON_GPU = `
import { expect, test } from 'quire/playwright';

test('wants a GPU', ({ quireNode }) => {
  expect(quireNode.adapter.software).toBe(false);
});
`;

interface Report {
  readonly suites: readonly { readonly suites?: Report['suites']; readonly specs: readonly Spec[] }[];
}
interface Spec {
  readonly title: string;
  readonly tests: readonly { readonly status: string; readonly annotations: readonly { description?: string }[] }[];
}

test('a project elsewhere imports it; where there is no GPU a test that wants one says why it is skipped', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'quire-outside-'));
  try {
    await mkdir(path.join(folder, 'node_modules'));
    // As npm installs a folder: a link.
    await symlink(ROOT, path.join(folder, 'node_modules/quire'));
    for (const name of ['@playwright', 'playwright', 'playwright-core']) {
      await cp(path.join(ROOT, 'node_modules', name), path.join(folder, 'node_modules', name), { recursive: true });
    }
    await writeFile(path.join(folder, 'package.json'), '{"type":"module"}');
    await writeFile(path.join(folder, 'cpu.spec.ts'), ON_CPU);
    await writeFile(path.join(folder, 'gpu.spec.ts'), ON_GPU);
    const cli = path.join(folder, 'node_modules/@playwright/test/cli.js');
    const options = { cwd: folder, maxBuffer: 16 << 20, env: { ...process.env, CI: '' } };
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [cli, 'test', '--reporter=json', '--timeout=200000'],
      options,
    );
    const report = JSON.parse(stdout) as Report;
    const specs = (suites: Report['suites']): Spec[] => suites.flatMap((s) => [...s.specs, ...specs(s.suites ?? [])]);
    const [cpu, gpu] = ['answers', 'wants a GPU'].map((title) => specs(report.suites).find((s) => s.title === title)!);
    expect(cpu?.tests[0]).toMatchObject({ status: 'expected' });
    expect(gpu?.tests[0]).toMatchObject({ status: 'skipped' });
    expect(gpu?.tests[0]?.annotations[0]?.description).toMatch(/adapter/);
  } finally {
    await rm(folder, { recursive: true });
  }
});
