import { EngineError } from '../api.ts';

/** Hears when a device is lost, or when its numbers are worth nothing any more. */
export class DeviceWatch {
  /** Why nothing can be computed any more. */
  lost: EngineError | null = null;
  /** Called once. */
  onLost: (error: EngineError) => void = () => {};
  private closing = false;

  constructor(private readonly device: GPUDevice) {
    void device.lost.then((lost) => {
      const why = lost.message.replace(/\.$/, '') || 'the browser gave no reason';
      this.lose(new EngineError('device_lost', `The GPU device was lost (${lost.reason}): ${why}.`));
    });
    // Everything that may fail is under an error scope; what comes here makes later numbers worthless.
    device.addEventListener('uncapturederror', ({ error }) => {
      const why = error.message.replace(/\.$/, '');
      this.lose(new EngineError('internal', `The GPU refused a command: ${why}. If it comes again, report it.`));
    });
  }

  /** Frees the device, of which nothing is heard any more. */
  close(): void {
    this.closing = true;
    this.device.destroy();
  }

  private lose(error: EngineError): void {
    if (this.closing || this.lost) return;
    this.lost = error;
    this.onLost(error);
  }
}
