import { adapterName, isSoftwareAdapter } from '../../protocol/adapter-name.ts';
import type { AdapterCard } from '../../protocol/messages.ts';
import { EngineError } from '../api.ts';

/** Chromium's, behind flags: not among WebGPU's names. */
const MATRIX_FEATURE = 'chromium-experimental-subgroup-matrix' as GPUFeatureName;
const WANTED_FEATURES: readonly GPUFeatureName[] = ['timestamp-query', 'subgroups', 'shader-f16', MATRIX_FEATURE];

export interface Gpu {
  readonly device: GPUDevice;
  readonly adapter: AdapterCard;
  /** Shaders may use matrix instructions as `shaders/lib/matrix.wgsl` has them. */
  readonly matrices: boolean;
}

/**
 * Opens a device with the adapter's own limits and every wanted feature that it has. maxBufferBytes: holds it to smaller buffers and
 * bindings than the adapter has, down to WebGPU's defaults (256 and 128 MiB), to see what a model does there.
 * Throws `EngineError` code `no_adapter` when there is none, `software_adapter` when it is software and that was not asked for.
 */
export async function openGpu(
  gpu: GPU | undefined,
  options: { readonly allowSoftware: boolean; readonly maxBufferBytes?: number },
): Promise<Gpu> {
  if (!gpu) {
    throw new EngineError(
      'no_adapter',
      'This browser has no WebGPU here. Use a recent Chrome, Edge, Safari or Firefox, on https or localhost.',
    );
  }
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) {
    throw new EngineError(
      'no_adapter',
      'WebGPU found no adapter. Check chrome://gpu, update the graphics driver, or enable hardware acceleration.',
    );
  }
  const card = describeAdapter(adapter);
  if (card.software && !options.allowSoftware) {
    throw new EngineError(
      'software_adapter',
      `The only adapter is software (${adapterName(card)}), far slower than a GPU. Add ?allow-software-adapter to the page's address to lend it all the same.`,
    );
  }
  const features = WANTED_FEATURES.filter((f) => adapter.features.has(f));
  const l = adapter.limits;
  const most = options.maxBufferBytes ?? Number.POSITIVE_INFINITY;
  const device = await adapter.requestDevice({
    requiredFeatures: features,
    requiredLimits: {
      maxBufferSize: Math.min(l.maxBufferSize, most),
      maxStorageBufferBindingSize: Math.min(l.maxStorageBufferBindingSize, most),
      maxComputeWorkgroupStorageSize: l.maxComputeWorkgroupStorageSize,
      maxComputeInvocationsPerWorkgroup: l.maxComputeInvocationsPerWorkgroup,
      maxComputeWorkgroupSizeX: l.maxComputeWorkgroupSizeX,
    },
  });
  return { device, adapter: { ...card, features: [...features] }, matrices: hasMatrices(adapter, features) };
}

/** What Chromium adds to `GPUAdapterInfo` beside the matrix feature. */
interface MatrixInfo {
  readonly subgroupMatrixConfigs?: Iterable<{
    readonly componentType: string;
    readonly resultComponentType: string;
    readonly M: number;
    readonly N: number;
    readonly K: number;
  }>;
}

/** The one shape that the kernels are written for, and the most workgroup memory that they take. */
export const MATRIX = { size: 16, subgroup: 32, workgroupBytes: 48 * 1024 } as const;

/** Whether kernels of `shaders/lib/matrix.wgsl` run with these features of the adapter. */
export function hasMatrices({ info, limits }: GPUAdapter, features: readonly GPUFeatureName[]): boolean {
  const needed: readonly GPUFeatureName[] = ['shader-f16', 'subgroups', MATRIX_FEATURE];
  if (!needed.every((f) => features.includes(f))) return false;
  const { subgroupMatrixConfigs = [] } = info as MatrixInfo;
  const fitting = [...subgroupMatrixConfigs].some(
    (c) =>
      c.componentType === 'f16' &&
      c.resultComponentType === 'f32' &&
      [c.M, c.N, c.K].every((size) => size === MATRIX.size),
  );
  return (
    fitting &&
    info.subgroupMinSize === MATRIX.subgroup &&
    info.subgroupMaxSize === MATRIX.subgroup &&
    limits.maxComputeWorkgroupStorageSize >= MATRIX.workgroupBytes
  );
}

function describeAdapter(adapter: GPUAdapter): AdapterCard {
  const { vendor, architecture, device, description } = adapter.info;
  const software = isSoftwareAdapter(adapter.info);
  return { vendor, architecture, device, description, software, features: [...adapter.features] };
}
