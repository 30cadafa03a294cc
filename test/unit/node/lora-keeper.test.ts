import { beforeEach, describe, expect, test } from 'vitest';
import { EngineError } from '../../../src/engine/api.ts';
import type { Loras } from '../../../src/engine/lora/loras.ts';
import { LoraKeeper } from '../../../src/node/lora-keeper.ts';
import type { ModelOffer, NodeMessage } from '../../../src/protocol/messages.ts';
import { memoryFiles } from '../../support/folder-files.ts';
import { ScriptedEngine } from '../../support/scripted-engine.ts';
import { settled } from './one-node.ts';

const offer = (name: string, fingerprint = `${name}-1`): ModelOffer => ({ name, fingerprint, base: '/', files: [] });

/** Adapters that load when the test says so. */
class ScriptedLoras implements Loras {
  readonly capacity = 8;
  readonly names: string[] = [];
  readonly loading: { name: string; done: () => void; fail: (error: Error) => void }[] = [];

  load(name: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = () => {
        this.names.push(name);
        resolve();
      };
      this.loading.push({ name, done, fail: reject });
    });
  }

  async unload(name: string): Promise<void> {
    this.names.splice(this.names.indexOf(name), 1);
  }

  /** What is being loaded comes to its end. */
  async next(how: 'done' | Error = 'done'): Promise<void> {
    const loading = this.loading.shift()!;
    if (how === 'done') loading.done();
    else loading.fail(how);
    await settled();
  }
}

let loras: ScriptedLoras;
let told: Extract<NodeMessage, { type: 'loras' }>[];
let signals: AbortSignal[];
let keeper: LoraKeeper;
let revision: number;

function ranksOf(given: Loras | null) {
  const engine = new ScriptedEngine({ tokens() {}, failed() {}, kvEvents() {}, prefilled() {}, lost() {} });
  return { engines: [Object.assign(engine, { loras: given })] } as const;
}

const want = (...adapters: ModelOffer[]) => keeper.want({ type: 'loras', revision: ++revision, adapters });
const last = () => {
  const { revision: of, loaded, failed } = told.at(-1)!;
  return { of, loaded: loaded.map(({ fingerprint }) => fingerprint), failed: failed.map(({ message }) => message) };
};

beforeEach(() => {
  [loras, told, signals, revision] = [new ScriptedLoras(), [], [], 0];
  keeper = new LoraKeeper({ send: (message) => told.push(message as (typeof told)[number]) }, (_offer, signal) => {
    signals.push(signal);
    return memoryFiles({});
  });
  keeper.use(ranksOf(loras));
});

describe('the LoRA adapters of a node', () => {
  test('are loaded one after the other, and each is told with the revision that wants it (A3)', async () => {
    want(offer('one'), offer('two'));
    expect(last()).toEqual({ of: 1, loaded: [], failed: [] });
    expect(loras.loading.map(({ name }) => name)).toEqual(['one']);
    await loras.next();
    expect(last()).toEqual({ of: 1, loaded: ['one-1'], failed: [] });
    await loras.next();
    expect(last()).toEqual({ of: 1, loaded: ['one-1', 'two-1'], failed: [] });
    expect(loras.loading).toEqual([]);
  });

  test('that fail are told with the reason, keep no other back, and are tried again with the next wish', async () => {
    want(offer('one'), offer('two'));
    await loras.next(new EngineError('overloaded', 'no place'));
    await loras.next();
    expect(last()).toEqual({ of: 1, loaded: ['two-1'], failed: ['no place'] });
    want(offer('one'), offer('two'));
    expect(last()).toEqual({ of: 2, loaded: ['two-1'], failed: [] });
    await loras.next();
    expect(last()).toEqual({ of: 2, loaded: ['two-1', 'one-1'], failed: [] });
  });

  test('that are no longer wanted go at once, also while another is being loaded; the same name may come back', async () => {
    want(offer('one'));
    await loras.next();
    want(offer('one'), offer('two'));
    want(offer('one', 'one-2'), offer('two'));
    expect([last(), loras.names]).toEqual([{ of: 3, loaded: [], failed: [] }, []]);
    // It is wanted still: what was read of it is not read again.
    expect(signals[1]!.aborted).toBe(false);
    await loras.next();
    await loras.next();
    expect(last()).toEqual({ of: 3, loaded: ['two-1', 'one-2'], failed: [] });
  });

  test('end to be read when nobody wants them, and are read anew when somebody does again', async () => {
    want(offer('one'));
    want();
    expect(signals[0]!.aborted).toBe(true);
    want(offer('one'));
    await loras.next(new Error('ended'));
    expect(last()).toEqual({ of: 3, loaded: [], failed: [] });
    await loras.next();
    expect(last()).toEqual({ of: 3, loaded: ['one-1'], failed: [] });
    // Too late to be ended.
    want(offer('one'), offer('two'));
    want(offer('one'));
    await loras.next();
    expect([last(), loras.names]).toEqual([{ of: 5, loaded: ['one-1'], failed: [] }, ['one']]);
  });

  test('are forgotten with their engines, and loaded into the next ones when the hub asks', async () => {
    want(offer('one'), offer('two'));
    await loras.next();
    keeper.use(null);
    const next = new ScriptedLoras();
    keeper.use(ranksOf(next));
    want(offer('one'), offer('two'));
    expect(last()).toEqual({ of: 2, loaded: [], failed: [] });
    await loras.next(new EngineError('internal', 'The engine is closed.'));
    await next.next();
    await next.next();
    expect(last()).toEqual({ of: 2, loaded: ['one-1', 'two-1'], failed: [] });
  });

  test('are refused by name where the node has no room for any', async () => {
    keeper.use(ranksOf(null));
    want(offer('one'));
    await settled();
    expect(last().failed[0]).toContain('max-loras is 0');
  });
});
