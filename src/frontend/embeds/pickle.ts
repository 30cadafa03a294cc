import { shown, TensorFileError } from './file-error.ts';

/** Value of a pickle, as far as tensors need any. */
export type PickleValue =
  | { readonly kind: 'mark' }
  | { readonly kind: 'integer'; readonly value: number }
  | { readonly kind: 'boolean' }
  | { readonly kind: 'text'; readonly value: string }
  /** A name of Python's: `module name`. It is looked at, never looked up. */
  | { readonly kind: 'global'; readonly name: string }
  | { readonly kind: 'tuple'; readonly items: readonly PickleValue[] }
  /** What the file keeps beside the pickle: the id that says which. */
  | { readonly kind: 'persistent'; readonly id: PickleValue }
  /** The one empty dictionary that a tensor has, for its hooks. */
  | { readonly kind: 'empty-dictionary' }
  | { readonly kind: 'tensor'; readonly arguments: readonly PickleValue[] };

/** A saved tensor needs about 40 steps, and has 12 values at once. */
const MAX_STEPS = 4096;
const MAX_TEXT_BYTES = 1024;

/**
 * Reads the pickle of a tensor; `arguments` of the outcome are those of `torch._utils._rebuild_tensor_v2`: storage, offset, shape, strides,
 * requires_grad, hooks. Knows the opcodes of protocol 2 that `torch.save` writes for one tensor (meanings: Python's `pickletools`), runs
 * nothing, and makes of REDUCE that tensor and its empty dictionary only. Throws `TensorFileError` that names the opcode, or the name of
 * Python's, that it does not know.
 */
export function readTensorPickle(bytes: Uint8Array): Extract<PickleValue, { kind: 'tensor' }> {
  const result = new PickleReader(bytes).read();
  if (result.kind === 'tensor') return result;
  throw new TensorFileError('what was saved is no tensor. Save the tensor alone: torch.save(tensor, file)');
}

const MARK: PickleValue = { kind: 'mark' };

class PickleReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #stack: PickleValue[] = [];
  readonly #memo = new Map<number, PickleValue>();
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  read(): PickleValue {
    for (let steps = 0; steps < MAX_STEPS; steps++) {
      const opcode = this.#byte();
      if (opcode === 0x2e /* STOP */) {
        const result = this.#pop();
        if (this.#stack.length > 0 || this.#at < this.#bytes.length) break;
        return result;
      }
      const value = this.#step(opcode);
      if (value !== null) this.#push(value);
    }
    throw new TensorFileError('its pickle is longer than that of a tensor');
  }

  /** What the opcode puts on the stack. */
  #step(opcode: number): PickleValue | null {
    switch (opcode) {
      case 0x80 /* PROTO */:
        {
          const protocol = this.#byte();
          if (protocol === 2) return null;
          throw new TensorFileError(
            `its pickle is of protocol ${protocol}, and torch.save's own is 2: leave pickle_protocol out`,
          );
        }
      case 0x63 /* GLOBAL */:
        return { kind: 'global', name: `${this.#line()} ${this.#line()}` };
      case 0x58 /* BINUNICODE */:
        return { kind: 'text', value: this.#text(this.#u32()) };
      case 0x4b /* BININT1 */:
        return { kind: 'integer', value: this.#byte() };
      case 0x4d /* BININT2 */:
        return { kind: 'integer', value: this.#view.getUint16(this.#take(2), true) };
      case 0x4a /* BININT */:
        return { kind: 'integer', value: this.#view.getInt32(this.#take(4), true) };
      case 0x88 /* NEWTRUE */:
      case 0x89 /* NEWFALSE */:
        return { kind: 'boolean' };
      case 0x28 /* MARK */:
        return MARK;
      case 0x29 /* EMPTY_TUPLE */:
        return { kind: 'tuple', items: [] };
      case 0x85 /* TUPLE1 */:
      case 0x86 /* TUPLE2 */:
      case 0x87 /* TUPLE3 */:
        {
          const items = Array.from({ length: opcode - 0x84 }, () => this.#pop()).reverse();
          return { kind: 'tuple', items };
        }
      case 0x74 /* TUPLE */:
        {
          const items: PickleValue[] = [];
          for (let item = this.#popAny(); item !== MARK; item = this.#popAny()) items.push(item);
          return { kind: 'tuple', items: items.reverse() };
        }
      case 0x51 /* BINPERSID */:
        return { kind: 'persistent', id: this.#pop() };
      case 0x52 /* REDUCE */:
        return this.#reduce();
      case 0x71 /* BINPUT */:
        return this.#put(this.#byte());
      case 0x72 /* LONG_BINPUT */:
        return this.#put(this.#u32());
      case 0x68 /* BINGET */:
        return this.#get(this.#byte());
      case 0x6a /* LONG_BINGET */:
        return this.#get(this.#u32());
      default: {
        const hex = opcode.toString(16).padStart(2, '0');
        throw new TensorFileError(
          `its pickle has opcode 0x${hex}, which a tensor alone does not need. Save the tensor alone: torch.save(tensor, file)`,
        );
      }
    }
  }

  #reduce(): PickleValue {
    const items = this.#pop();
    const called = this.#pop();
    if (called.kind !== 'global' || items.kind !== 'tuple') throw new TensorFileError('its pickle is broken');
    switch (called.name) {
      case 'torch._utils _rebuild_tensor_v2':
        return { kind: 'tensor', arguments: items.items };
      case 'collections OrderedDict':
        if (items.items.length === 0) return { kind: 'empty-dictionary' };
    }
    throw new TensorFileError(
      `its pickle asks for ${shown(called.name.replace(' ', '.'))}, and only plain tensors are read. Save tensor.detach().cpu()`,
    );
  }

  #put(index: number): null {
    const top = this.#stack.at(-1);
    if (top === undefined || top === MARK) throw new TensorFileError('its pickle is broken');
    this.#memo.set(index, top);
    return null;
  }

  #get(index: number): PickleValue {
    const value = this.#memo.get(index);
    if (value === undefined) throw new TensorFileError('its pickle is broken');
    return value;
  }

  #push(value: PickleValue): void {
    this.#stack.push(value);
  }

  #popAny(): PickleValue {
    const value = this.#stack.pop();
    if (value === undefined) throw new TensorFileError('its pickle is broken');
    return value;
  }

  #pop(): PickleValue {
    const value = this.#popAny();
    if (value === MARK) throw new TensorFileError('its pickle is broken');
    return value;
  }

  /** Moves on by `count` bytes; returns where they begin. */
  #take(count: number): number {
    const at = this.#at;
    if (at + count > this.#bytes.length) throw new TensorFileError('its pickle ends too early');
    this.#at += count;
    return at;
  }

  #byte(): number {
    return this.#view.getUint8(this.#take(1));
  }

  #u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  #text(length: number): string {
    if (length > MAX_TEXT_BYTES) throw new TensorFileError('its pickle has a longer text than that of a tensor');
    const at = this.#take(length);
    return new TextDecoder().decode(this.#bytes.subarray(at, at + length));
  }

  #line(): string {
    const length = this.#bytes.subarray(this.#at, this.#at + MAX_TEXT_BYTES).indexOf(0x0a);
    if (length < 0) throw new TensorFileError('its pickle ends too early');
    const text = this.#text(length);
    this.#take(1);
    return text;
  }
}
