import { createSHA256, type IHasher } from 'hash-wasm';
import type { ModelOffer } from '../../protocol/messages.ts';
import type { EngineError } from '../api.ts';
import { modelError } from '../model-error.ts';

/** A file as the hub, or a manifest, offers it. */
export type OfferFile = ModelOffer['files'][number];

/** Compares the bytes of a file, as they pass, with what was offered. */
export class FileCheck {
  private seen = 0;

  private constructor(
    private readonly file: OfferFile,
    private readonly hash: IHasher,
  ) {}

  static async start(file: OfferFile): Promise<FileCheck> {
    return new FileCheck(file, await createSHA256());
  }

  /** Bytes that have passed. */
  get bytes(): number {
    return this.seen;
  }

  /** Takes the next bytes. Throws `EngineError` code `model` when there are more than were offered. */
  update(chunk: Uint8Array): void {
    const { path, size } = this.file;
    if (this.seen + chunk.byteLength > size) {
      throw modelError(path, `has more than the ${size} bytes that were offered. Was it changed?`);
    }
    this.seen += chunk.byteLength;
    this.hash.update(chunk);
  }

  /** What is wrong with the file now that all of it has passed; null when its length and SHA-256 are those of the offer. */
  finish(): EngineError | null {
    const { path, size, sha256 } = this.file;
    if (this.seen < size) return modelError(path, `ended after ${this.seen} of ${size} bytes. Load it again.`);
    const found = this.hash.digest('hex');
    if (found === sha256) return null;
    return modelError(
      path,
      `its bytes are not those that were offered (SHA-256 ${found}, offered ${sha256}). Load it again; if that fails too, the file was changed.`,
    );
  }
}
