import type { ModelListing } from '../engine/files/source.ts';
import type { StartListener } from './engine-offer.ts';

/** How long a notice stands while bytes come in. */
const NOTICE_MS = 3000;

/** What is going on while an engine starts: the newest words beside the newest byte counts. */
export class Progress {
  private detail = '';
  private saidAt = Number.NEGATIVE_INFINITY;
  private bytes = 0;
  private total: number;

  constructor(
    private readonly tellStage: StartListener['progress'],
    files: ModelListing['files'],
    private readonly now: () => number,
  ) {
    this.total = files
      .filter((file) => /\.(safetensors|gguf)$/.test(file.path))
      .reduce((sum, file) => sum + file.size, 0);
  }

  /** A notice in words, while the model loads. */
  say(detail: string): void {
    this.detail = detail;
    this.saidAt = this.now();
    this.tell('downloading');
  }

  loaded(bytes: number, total: number): void {
    this.bytes = bytes;
    this.total = total;
    if (this.now() - this.saidAt > NOTICE_MS) this.detail = '';
    this.tell('downloading');
  }

  warming(detail: string): void {
    this.detail = detail;
    this.tell('warming');
  }

  private tell(stage: 'downloading' | 'warming'): void {
    this.tellStage(stage, this.detail, this.bytes, this.total);
  }
}
