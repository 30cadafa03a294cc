/** Holds whoever awaits `passed` until `open` is called: a test goes on when something happened, not when some time is over. */
export class Gate {
  readonly passed: Promise<void>;
  readonly open: () => void;

  constructor() {
    let open = () => {};
    this.passed = new Promise<void>((resolve) => {
      open = resolve;
    });
    this.open = open;
  }
}
