import { shown, TensorFileError } from './file-error.ts';

const END_BYTES = 22;
const ENTRY_BYTES = 46;
const LOCAL_BYTES = 30;
const END = 0x06054b50;
const ENTRY = 0x02014b50;
const LOCAL = 0x04034b50;
const END_64 = 0x06064b50;
const LOCATOR_64 = 0x07064b50;
const END_64_BYTES = 56;
const LOCATOR_64_BYTES = 20;
const ENCRYPTED = 1;
const STORED = 0;
/** A file of zip64 has this in the place of a size. */
const IN_ZIP64 = 0xffffffff;
/** A saved tensor has about seven. */
const MAX_ENTRIES = 64;

/**
 * Entries of a zip archive by name, as views into `bytes`: nothing is copied, and nothing inflated. Takes what `torch.save` writes: one
 * disk, no comment at the end, entries stored and not encrypted, sizes below 4 GiB (APPNOTE.TXT of PKWARE, sections 4.3.7, 4.3.12 to
 * 4.3.16; PyTorch ends all its files with a zip64 end too, which must say the same). Sizes come from the central directory alone. Throws `TensorFileError` for anything else, for entries that leave the file, and for two of one name.
 */
export function readZip(bytes: Uint8Array): ReadonlyMap<string, Uint8Array> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = bytes.length - END_BYTES;
  if (end < 0 || view.getUint32(end, true) !== END) {
    throw new TensorFileError(
      'it is no zip archive, which torch.save writes (not with _use_new_zipfile_serialization=False)',
    );
  }
  const count = view.getUint16(end + 10, true);
  const size = view.getUint32(end + 12, true);
  const start = view.getUint32(end + 16, true);
  if (view.getUint32(end + 4, true) !== 0 || view.getUint16(end + 8, true) !== count) {
    throw new TensorFileError('its zip archive is in several parts');
  }
  if (count > MAX_ENTRIES)
    throw new TensorFileError(`its zip archive has ${count} entries; a saved tensor has fewer than ${MAX_ENTRIES}`);
  const stop = start + size;
  if (stop !== end && !sameEnd64(view, stop, end)) {
    throw new TensorFileError('the directory of its zip archive is not where its end says');
  }

  const entries = new Map<string, Uint8Array>();
  let at = start;
  for (let i = 0; i < count; i++) {
    if (at + ENTRY_BYTES > stop || view.getUint32(at, true) !== ENTRY) {
      throw new TensorFileError('the directory of its zip archive is broken');
    }
    const nameBytes = view.getUint16(at + 28, true);
    const next = at + ENTRY_BYTES + nameBytes + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
    if (next > stop) throw new TensorFileError('the directory of its zip archive is broken');
    const name = new TextDecoder().decode(bytes.subarray(at + ENTRY_BYTES, at + ENTRY_BYTES + nameBytes));
    if (entries.has(name)) throw new TensorFileError(`its zip archive has two entries ${shown(name)}`);
    entries.set(name, contents(bytes, view, at, name, start));
    at = next;
  }
  if (at !== stop) throw new TensorFileError('the directory of its zip archive is broken');
  return entries;
}

/** Whether a zip64 end, with its locator, fills the space between directory and end, and has the same count, size and start as the end. */
function sameEnd64(view: DataView, at: number, end: number): boolean {
  const locator = at + END_64_BYTES;
  if (end - at !== END_64_BYTES + LOCATOR_64_BYTES) return false;
  const u64 = (place: number) => view.getBigUint64(place, true);
  const count = BigInt(view.getUint16(end + 10, true));
  return (
    view.getUint32(at, true) === END_64 &&
    view.getUint32(locator, true) === LOCATOR_64 &&
    u64(locator + 8) === BigInt(at) &&
    u64(at + 24) === count &&
    u64(at + 32) === count &&
    u64(at + 40) === BigInt(view.getUint32(end + 12, true)) &&
    u64(at + 48) === BigInt(view.getUint32(end + 16, true))
  );
}

/** Bytes of the entry that the directory has at `at`; they lie before the directory. */
function contents(bytes: Uint8Array, view: DataView, at: number, name: string, directory: number): Uint8Array {
  if ((view.getUint16(at + 8, true) & ENCRYPTED) !== 0)
    throw new TensorFileError(`its zip entry ${shown(name)} is encrypted`);
  const size = view.getUint32(at + 24, true);
  if (view.getUint16(at + 10, true) !== STORED || view.getUint32(at + 20, true) !== size) {
    throw new TensorFileError(`its zip entry ${shown(name)} is compressed, and torch.save stores`);
  }
  const header = view.getUint32(at + 42, true);
  if (size === IN_ZIP64 || header === IN_ZIP64) throw new TensorFileError('its zip archive is of zip64');
  if (header + LOCAL_BYTES > directory || view.getUint32(header, true) !== LOCAL) {
    throw new TensorFileError(`its zip entry ${shown(name)} is not where the directory says`);
  }
  // The local header pads in its own extra field, so that contents are aligned.
  const start = header + LOCAL_BYTES + view.getUint16(header + 26, true) + view.getUint16(header + 28, true);
  if (start + size > directory) throw new TensorFileError(`its zip entry ${shown(name)} is longer than the file`);
  return bytes.subarray(start, start + size);
}
