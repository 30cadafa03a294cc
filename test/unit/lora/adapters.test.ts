import { describe, expect, test } from 'vitest';
import { LoraAdapters } from '../../../src/engine/lora/adapters.ts';
import { loraProducts } from '../../../src/engine/lora/sites.ts';
import { modelSpec } from '../../../src/engine/model/config.ts';
import { FakeDevice } from '../../support/fake-device.ts';
import { memoryFiles } from '../../support/folder-files.ts';
import { adapterContents, adapterFiles, randomAdapter } from '../../support/lora-adapter.ts';
import { llama } from '../model/configs.ts';

const spec = modelSpec(llama());
const SIZES = { adapters: 2, rank: 8 };
const full = randomAdapter(spec, { seed: 1, rank: 8, size: 1 });
const queries = randomAdapter(spec, { seed: 2, rank: 3, alpha: 6, targets: ['k_proj'], size: 1 });

function made(device = new FakeDevice()) {
  return { device, loras: new LoraAdapters(device.asDevice(), spec, SIZES) };
}

function floatsOf(device: FakeDevice, label: string): Float32Array {
  return new Float32Array(device.buffers.findLast((buffer) => buffer.label === label)!.bytes.buffer);
}

const alive = ({ buffers }: FakeDevice) => buffers.filter(({ destroyed }) => !destroyed).length;
const PRODUCTS = loraProducts(spec).length;

describe('LoRA adapters on a GPU', () => {
  test('lie at their places: A by targets, B turned and scaled, zeros where an adapter has nothing', async () => {
    const { device, loras } = made();
    await loras.load('full', adapterFiles(full, [13, 5000]));
    await loras.load('keys', adapterFiles(queries));
    const pair = queries.pairs.get('model.layers.1.self_attn.k_proj')!;
    // Target 1 of 3, of the second adapter; q has 64 columns, k and v 32.
    const a = floatsOf(device, 'layer 1 qkv LoRA A').subarray(3 * 8 * 64);
    expect([...a.subarray(8 * 64, 8 * 64 + 3 * 64)]).toEqual([...pair.a]);
    expect(a.subarray(0, 8 * 64).every((x) => x === 0)).toBe(true);
    expect(a.subarray(8 * 64 + 3 * 64).every((x) => x === 0)).toBe(true);
    const b = floatsOf(device, 'layer 1 qkv LoRA B').subarray(8 * 128);
    for (let rank = 0; rank < 8; rank++) {
      for (let column = 0; column < 128; column++) {
        const own = rank < 3 && column >= 64 && column < 96;
        expect(b[rank * 128 + column]).toBe(own ? Math.fround(2 * pair.b[(column - 64) * 3 + rank]!) : 0);
      }
    }
  });

  test('use what a former one left behind only after it is cleared', async () => {
    const { device, loras } = made();
    await loras.load('keep', adapterFiles(queries));
    await loras.load('full', adapterFiles(full));
    await loras.unload('full');
    await loras.load('keys', adapterFiles(queries));
    const a = floatsOf(device, 'layer 0 oProj LoRA A');
    expect(a.every((x) => x === 0)).toBe(true);
  });

  test('take memory with the first, and free it with the last', async () => {
    const { device, loras } = made();
    expect(alive(device)).toBe(0);
    await loras.load('one', adapterFiles(full));
    await loras.load('two', adapterFiles(queries));
    expect(alive(device)).toBe(2 * PRODUCTS);
    expect(loras.generation).toBe(1);
    await loras.unload('one');
    expect(alive(device)).toBe(2 * PRODUCTS);
    await loras.unload('two');
    expect(alive(device)).toBe(0);
    await loras.load('one', adapterFiles(full));
    expect(alive(device)).toBe(2 * PRODUCTS);
    expect(loras.generation).toBe(2);
    loras.destroy();
    expect(alive(device)).toBe(0);
  });

  test('stay until the last one who uses them is done; the name is free then, and those who remember are told', async () => {
    const { device, loras } = made();
    const freed: string[] = [];
    loras.onFreed((name) => freed.push(name));
    await loras.load('one', adapterFiles(full));
    const taken = loras.take('one');
    loras.hold(taken);
    let gone = false;
    const unloaded = loras.unload('one').then(() => {
      gone = true;
    });
    expect(loras.names).toEqual([]);
    expect(() => loras.take('one')).toThrow('not there to take');
    const again = loras.load('one', adapterFiles(queries));
    loras.release(taken);
    await Promise.resolve();
    expect([gone, freed, alive(device)]).toEqual([false, [], 2 * PRODUCTS]);
    loras.release(taken);
    await unloaded;
    expect(freed).toEqual(['one']);
    await again;
    expect(loras.names).toEqual(['one']);
    // k_proj alone: the product with q, k and v.
    expect(loras.sites).toBe(1);
  });

  test('are refused beyond their number, twice, and leave nothing behind where they fail', async () => {
    const { device, loras } = made();
    await loras.load('one', adapterFiles(full));
    await expect(loras.load('one', adapterFiles(queries))).rejects.toThrow('is loaded already');
    const broken = adapterContents(queries);
    const weights = broken['adapter_model.safetensors']!;
    const cut = memoryFiles({ ...broken, 'adapter_model.safetensors': weights.subarray(0, weights.length - 4) });
    await expect(loras.load('cut', cut)).rejects.toThrow('cut short');
    const files = memoryFiles(broken);
    const lying = {
      ...files,
      open: async (path: string, from: number) => {
        const other = path.endsWith('.json')
          ? broken[path]!
          : weights.map((byte, i) => (i === weights.length - 1 ? byte ^ 1 : byte));
        return new Blob([other.slice(from)]).stream() as ReadableStream<Uint8Array>;
      },
    };
    await expect(loras.load('lying', lying)).rejects.toMatchObject({ code: 'model' });
    await loras.load('two', adapterFiles(queries));
    await expect(loras.load('three', adapterFiles(queries))).rejects.toMatchObject({
      code: 'overloaded',
      message: expect.stringContaining('--max-loras'),
    });
    expect(loras.names).toEqual(['one', 'two']);
    expect(alive(device)).toBe(2 * PRODUCTS);
  });

  test('wait for a place where one is leaving, and are refused where none is', async () => {
    const { loras } = made();
    await loras.load('one', adapterFiles(full));
    await loras.load('two', adapterFiles(queries));
    const taken = loras.take('one');
    void loras.unload('one');
    const [three, four] = [loras.load('three', adapterFiles(queries)), loras.load('four', adapterFiles(queries))];
    const refused = expect(four).rejects.toMatchObject({ code: 'overloaded' });
    expect(loras.names).toEqual(['two']);
    loras.release(taken);
    await Promise.all([three, refused]);
    expect(loras.names).toEqual(['two', 'three']);
  });

  test('that find no memory say so, and a later try begins anew', async () => {
    const { device, loras } = made(new FakeDevice(2 ** 30, 'out'));
    await expect(loras.load('one', adapterFiles(full))).rejects.toMatchObject({ code: 'out_of_memory' });
    await expect(loras.load('one', adapterFiles(full))).rejects.toMatchObject({ code: 'out_of_memory' });
    expect(alive(device)).toBe(0);
  });

  test('are gone with the engine, also those that are being loaded or waited for', async () => {
    const { device, loras } = made();
    await loras.load('one', adapterFiles(full));
    loras.take('one');
    const unloaded = loras.unload('one');
    const loading = loras.load('two', adapterFiles(queries, [64]));
    const waiting = expect(loras.load('four', adapterFiles(queries))).rejects.toThrow('closed');
    loras.destroy();
    await unloaded;
    await expect(loading).rejects.toThrow('closed');
    await waiting;
    await expect(loras.load('three', adapterFiles(full))).rejects.toThrow('closed');
    expect(alive(device)).toBe(0);
  });
});
