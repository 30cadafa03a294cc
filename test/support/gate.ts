/** Holds whoever awaits `passed` until `open` is called: a test goes on when something happened, not when some time is over. */
export class Gate {
  readonly passed: Promise<void>;
  isOpen = false;
  #pass = () => {};

  constructor() {
    this.passed = new Promise<void>((resolve) => {
      this.#pass = resolve;
    });
  }

  open(): void {
    this.isOpen = true;
    this.#pass();
  }
}
