/** One call of `createComputePipelineAsync`. */
export interface Compile {
  /** The shader's path in `shaders/`. */
  readonly shader: string;
  readonly ms: number;
}

/** Measures all calls of `createComputePipelineAsync` in this process until `stop`. */
export class CompileTimes {
  readonly compiles: Compile[] = [];
  /** Milliseconds in which at least one pipeline was being compiled. */
  busyMs = 0;
  #pending = 0;
  #since = 0;
  #last: Promise<unknown> = Promise.resolve();
  readonly #original = GPUDevice.prototype.createComputePipelineAsync;

  /** `oneByOne`: a compile starts when the one before has ended, so that each has the machine to itself. */
  constructor(oneByOne: boolean) {
    const times = this;
    GPUDevice.prototype.createComputePipelineAsync = function (descriptor) {
      const compile = () => times.#measure(descriptor.label ?? '', () => times.#original.call(this, descriptor));
      const before = oneByOne ? times.#last : Promise.resolve();
      const compiled = before.then(compile, compile);
      times.#last = compiled;
      return compiled;
    };
  }

  stop(): void {
    GPUDevice.prototype.createComputePipelineAsync = this.#original;
  }

  async #measure<T>(shader: string, compile: () => Promise<T>): Promise<T> {
    const started = performance.now();
    if (this.#pending++ === 0) this.#since = started;
    try {
      return await compile();
    } finally {
      const ended = performance.now();
      this.compiles.push({ shader, ms: ended - started });
      if (--this.#pending === 0) this.busyMs += ended - this.#since;
    }
  }
}
