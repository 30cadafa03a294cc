import type { EmbedsDtype } from '../../src/protocol/prompt-embeds.ts';

const STORAGE: Readonly<Record<EmbedsDtype, string>> = {
  f32: 'FloatStorage',
  f16: 'HalfStorage',
  bf16: 'BFloat16Storage',
};
const BYTES: Readonly<Record<EmbedsDtype, number>> = { f32: 4, f16: 2, bf16: 2 };

interface Written {
  readonly dtype: EmbedsDtype;
  readonly shape: readonly number[];
  /** Contiguous where left out. */
  readonly strides?: readonly number[];
  /** Little-endian. */
  readonly data: Uint8Array;
}

/** A file as `torch.save(tensor, file)` writes it, but for padding, checksums and the entries that only say versions. */
export function torchFile({ dtype, shape, strides, data }: Written): Uint8Array {
  const contiguous = shape.map((_, i) => shape.slice(i + 1).reduce((product, length) => product * length, 1));
  const pickle = Buffer.concat([
    Buffer.from('\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((', 'latin1'),
    text('storage'),
    Buffer.from(`ctorch\n${STORAGE[dtype]}\n`),
    text('0'),
    text('cpu'),
    integer(data.length / BYTES[dtype]),
    Buffer.from('tQ'),
    integer(0),
    tuple(shape),
    tuple(strides ?? contiguous),
    Buffer.from('\x89ccollections\nOrderedDict\n)RtR.', 'latin1'),
  ]);
  return zip([
    ['archive/data.pkl', pickle],
    ['archive/byteorder', Buffer.from('little')],
    ['archive/data/0', data],
  ]);
}

const integer = (value: number) => words('J', value);
const text = (value: string) => Buffer.concat([words('X', value.length), Buffer.from(value)]);
const tuple = (items: readonly number[]) => Buffer.concat([Buffer.from('('), ...items.map(integer), Buffer.from('t')]);

function words(opcode: string, value: number): Buffer {
  const bytes = Buffer.from(`${opcode}\0\0\0\0`, 'latin1');
  bytes.writeInt32LE(value, 1);
  return bytes;
}

/** An archive of stored entries. */
function zip(entries: readonly (readonly [name: string, contents: Uint8Array])[]): Uint8Array {
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let at = 0;
  for (const [name, contents] of entries) {
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(name.length, 26);
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50, 0);
    entry.writeUInt32LE(contents.length, 20);
    entry.writeUInt32LE(contents.length, 24);
    entry.writeUInt16LE(name.length, 28);
    entry.writeUInt32LE(at, 42);
    parts.push(local, Buffer.from(name), contents);
    directory.push(entry, Buffer.from(name));
    at += 30 + name.length + contents.length;
  }
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(Buffer.concat(directory).length, 12);
  end.writeUInt32LE(at, 16);
  return Uint8Array.from(Buffer.concat([...parts, ...directory, end]));
}
