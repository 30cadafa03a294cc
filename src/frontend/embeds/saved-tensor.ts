import type { EmbedsDtype } from '../../protocol/prompt-embeds.ts';
import { shown, TensorFileError } from './file-error.ts';
import { type PickleValue, readTensorPickle } from './pickle.ts';
import { readZip } from './zip.ts';

/** A tensor in a file: a view into the bytes of a storage. Every element lies within it. */
export interface SavedTensor {
  readonly dtype: EmbedsDtype;
  readonly shape: readonly number[];
  /** Elements from one index to the next, by dimension. */
  readonly strides: readonly number[];
  /** Element of the storage where the tensor begins. */
  readonly offset: number;
  /** Elements, little-endian. */
  readonly storage: Uint8Array;
}

export const DTYPE_BYTES: Readonly<Record<EmbedsDtype, number>> = { f32: 4, f16: 2, bf16: 2 };

const STORAGES: ReadonlyMap<string, EmbedsDtype> = new Map([
  ['torch FloatStorage', 'f32'],
  ['torch HalfStorage', 'f16'],
  ['torch BFloat16Storage', 'bf16'],
]);

/**
 * The tensor that `torch.save(tensor, file)` wrote (PyTorch 1.6 and later): a zip archive with `data.pkl`, and the storage in `data/0`.
 * Copies nothing. Throws `TensorFileError` when the file is anything else, the type is not float32, float16 or bfloat16, its bytes are
 * big-endian, or an element lies outside of the storage.
 */
export function readSavedTensor(file: Uint8Array): SavedTensor {
  const entries = readZip(file);
  const pickles = [...entries.keys()].filter((name) => /^[^/]*\/data\.pkl$/.test(name));
  const [pickle] = pickles;
  if (pickle === undefined || pickles.length > 1) {
    throw new TensorFileError('its zip archive has no data.pkl, which torch.save writes');
  }
  const folder = pickle.slice(0, pickle.indexOf('/') + 1);
  const order = entries.get(`${folder}byteorder`);
  if (order !== undefined && new TextDecoder().decode(order.subarray(0, 16)) !== 'little') {
    throw new TensorFileError('its bytes are not little-endian. Save it on a little-endian machine');
  }
  const data = entries.get(pickle);
  const tensor = readTensorPickle(data ?? new Uint8Array(0)).arguments;
  const [storage, offset, shape, strides] = tensor;
  if (tensor.length !== 6) throw new TensorFileError('its pickle is broken');
  const { dtype, key, count } = storageOf(storage);
  const bytes = entries.get(`${folder}data/${key}`);
  if (bytes === undefined)
    throw new TensorFileError(`its zip archive has no ${shown(`data/${key}`)}, where the pickle says the values are`);
  if (bytes.length !== count * DTYPE_BYTES[dtype]) {
    throw new TensorFileError(
      `its values are ${bytes.length} bytes, and ${count} of ${dtype} are ${count * DTYPE_BYTES[dtype]}`,
    );
  }
  const saved = { dtype, shape: sizes(shape), strides: sizes(strides), offset: size(offset), storage: bytes };
  if (saved.shape.length !== saved.strides.length) throw new TensorFileError('its pickle is broken');
  const last = saved.shape.reduce((sum, length, i) => sum + (length - 1) * (saved.strides[i] ?? 0), saved.offset);
  // Nothing of an empty tensor lies anywhere.
  if (!saved.shape.includes(0) && last >= count) {
    throw new TensorFileError(`its shape, strides and offset reach element ${last} of ${count}`);
  }
  return saved;
}

/** The persistent id of a storage: ('storage', type, key, device, number of elements). The device it was on does not matter. */
function storageOf(value: PickleValue | undefined): { dtype: EmbedsDtype; key: string; count: number } {
  if (value?.kind !== 'persistent' || value.id.kind !== 'tuple' || value.id.items.length !== 5) {
    throw new TensorFileError('its pickle is broken');
  }
  const [word, type, key, device, count] = value.id.items;
  if (word?.kind !== 'text' || word.value !== 'storage' || key?.kind !== 'text' || device?.kind !== 'text') {
    throw new TensorFileError('its pickle is broken');
  }
  const name = type?.kind === 'global' ? type.name : '';
  const dtype = STORAGES.get(name);
  if (dtype === undefined) {
    throw new TensorFileError(
      `its values are of ${shown(name.replace(' ', '.'))}, and float32, float16 or bfloat16 are read`,
    );
  }
  return { dtype, key: key.value, count: size(count) };
}

function sizes(value: PickleValue | undefined): number[] {
  if (value?.kind !== 'tuple') throw new TensorFileError('its pickle is broken');
  return value.items.map(size);
}

function size(value: PickleValue | undefined): number {
  if (value?.kind === 'integer' && value.value >= 0) return value.value;
  throw new TensorFileError('its pickle is broken');
}
