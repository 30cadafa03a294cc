import { openGpu } from '../../src/engine/gpu/device.ts';
import { KernelRunner } from '../../test/gpu/kernel-runner.ts';
import { adapterTable, measureAdapter } from '../adapter.ts';
import { benchShape, type ShapeOptions } from '../shape.ts';

const SHADERS = import.meta.glob<string>('../../shaders/**/*.wgsl', { query: '?raw', import: 'default', eager: true });

function shaders(path: string): string {
  const text = SHADERS[`../../shaders/${path}`];
  if (text === undefined) throw new Error(`There is no shader ${path}.`);
  return text;
}

export interface PageOptions extends ShapeOptions {
  /** Holds the device to buffers and bindings of so many bytes; null: the adapter's own. */
  readonly maxBufferBytes: number | null;
}

/** What bench/shape-page.ts calls in the page: the tables of the adapter and of the shape. */
async function run({ maxBufferBytes, ...options }: PageOptions): Promise<string> {
  const limits = maxBufferBytes === null ? {} : { maxBufferBytes };
  const gpu = await openGpu(navigator.gpu, { allowSoftware: true, ...limits });
  const runner = new KernelRunner(gpu, shaders);
  const adapter = await measureAdapter(runner);
  return [adapterTable(gpu.adapter, adapter), await benchShape(runner, adapter, options)].join('\n');
}

declare global {
  var quireBench: (options: PageOptions) => Promise<string>;
}
globalThis.quireBench = run;
