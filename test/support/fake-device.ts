/** A GPU buffer as bytes in memory. */
export interface FakeBuffer {
  readonly label: string;
  readonly size: number;
  readonly bytes: Uint8Array;
  destroyed: boolean;
}

/** The part of a GPUDevice that loading weights uses, with WebGPU's rules for `writeBuffer`; the rest is missing. */
export class FakeDevice {
  readonly buffers: FakeBuffer[] = [];
  /** Largest `writeBuffer` so far, bytes. */
  largestWrite = 0;
  readonly limits: { maxBufferSize: number; maxStorageBufferBindingSize: number };

  constructor(
    maxBytes = 2 ** 30,
    private readonly memoryError: string | null = null,
  ) {
    this.limits = { maxBufferSize: maxBytes, maxStorageBufferBindingSize: maxBytes };
  }

  private readonly scopes: GPUErrorFilter[] = [];

  pushErrorScope(filter: GPUErrorFilter): void {
    this.scopes.push(filter);
  }

  async popErrorScope(): Promise<{ message: string } | null> {
    const filter = this.scopes.pop();
    if (filter === undefined) throw new Error('no error scope to pop');
    return filter === 'out-of-memory' && this.memoryError ? { message: this.memoryError } : null;
  }

  createBuffer({ label = '', size }: GPUBufferDescriptor): FakeBuffer & { destroy(): void } {
    const buffer = {
      label,
      size,
      bytes: new Uint8Array(size),
      destroyed: false,
      destroy: () => {
        buffer.destroyed = true;
      },
    };
    this.buffers.push(buffer);
    return buffer;
  }

  readonly queue = {
    writeBuffer: (buffer: FakeBuffer, at: number, data: ArrayBuffer, from: number, size: number): void => {
      if (at % 4 !== 0 || size % 4 !== 0 || at + size > buffer.size) {
        throw new Error(`writeBuffer of ${size} bytes at ${at} into ${buffer.size}: not allowed`);
      }
      this.largestWrite = Math.max(this.largestWrite, size);
      buffer.bytes.set(new Uint8Array(data, from, size), at);
    },
    submit: (): void => {},
    onSubmittedWorkDone: async (): Promise<void> => {},
  };

  createCommandEncoder() {
    return {
      clearBuffer: (buffer: FakeBuffer, from: number, size: number): void => {
        if (from % 4 !== 0 || size % 4 !== 0 || from + size > buffer.size)
          throw new Error(`clearBuffer of ${size} bytes at ${from} in ${buffer.size}: not allowed`);
        buffer.bytes.fill(0, from, from + size);
      },
      finish: () => null,
    };
  }

  /** Bytes of all buffers, one after the other. */
  contents(): Buffer {
    return Buffer.concat(this.buffers.map((b) => b.bytes));
  }

  asDevice(): GPUDevice {
    return this as unknown as GPUDevice;
  }
}
