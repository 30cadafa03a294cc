/** What is alive on a device, and what was made there, from now on. */
export class DeviceCount {
  /** Bytes of the buffers that are not destroyed, by label. */
  readonly alive = new Map<string, number>();
  pipelines = 0;

  constructor(device: GPUDevice) {
    const createBuffer = device.createBuffer.bind(device);
    device.createBuffer = (descriptor) => {
      const buffer = createBuffer(descriptor);
      const { label = '', size } = descriptor;
      this.#add(label, size);
      const destroy = buffer.destroy.bind(buffer);
      let destroyed = false;
      buffer.destroy = () => {
        if (!destroyed) this.#add(label, -size);
        destroyed = true;
        return destroy();
      };
      return buffer;
    };
    const createPipeline = device.createComputePipelineAsync.bind(device);
    device.createComputePipelineAsync = (descriptor) => {
      this.pipelines += 1;
      return createPipeline(descriptor);
    };
  }

  get bytes(): number {
    return [...this.alive.values()].reduce((sum, bytes) => sum + bytes, 0);
  }

  #add(label: string, bytes: number): void {
    const now = (this.alive.get(label) ?? 0) + bytes;
    if (now === 0) this.alive.delete(label);
    else this.alive.set(label, now);
  }
}
