/** A clock that stands still until it is told to move; serves node and hub alike. */
export class FakeClock {
  private time = 0;
  private tasks: { at: number; order: number; run: () => void }[] = [];
  private order = 0;

  now(): number {
    return this.time;
  }

  /** Timers that wait. */
  get pending(): number {
    return this.tasks.length;
  }

  after(ms: number, run: () => void): () => void {
    const task = { at: this.time + ms, order: this.order++, run };
    this.tasks.push(task);
    return () => {
      this.tasks = this.tasks.filter((each) => each !== task);
    };
  }

  /** Moves on by `ms` and runs what is due, in the order of its times. */
  advance(ms: number): void {
    const until = this.time + ms;
    for (;;) {
      const due = this.tasks.filter((t) => t.at <= until).sort((a, b) => a.at - b.at || a.order - b.order)[0];
      if (!due) break;
      this.tasks = this.tasks.filter((each) => each !== due);
      this.time = due.at;
      due.run();
    }
    this.time = until;
  }
}
