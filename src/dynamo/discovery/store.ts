/** Dynamo's four kinds of records. */
export type Bucket = 'v1/instances' | 'v1/mdc' | 'v1/event_channels' | 'v1/event_sources';

/** Where a record is. key: parts joined by `/`; ids in it are lower-case hex. */
export interface RecordName {
  readonly bucket: Bucket;
  readonly key: string;
}

/** One record of Dynamo's discovery. */
export interface DiscoveryRecord extends RecordName {
  /** Becomes JSON; integers in it are below 2^53. */
  readonly value: object;
}

/** A record as a store keeps it. */
export interface Entry extends RecordName {
  readonly text: string;
}

/** A place that Dynamo's processes watch. All methods reject with what went wrong; what was asked for is then asked for again. */
export interface Store {
  /** Milliseconds between two calls of `refresh`; records that are not refreshed vanish some three times later. */
  readonly refreshMs: number;
  /** Writes whole, or not at all; replaces what was there. */
  write(entry: Entry): Promise<void>;
  /** Nothing to do where it is not there. */
  erase(name: RecordName): Promise<void>;
  /** Keeps all these alive, and writes anew those that vanished. */
  refresh(entries: readonly Entry[]): Promise<void>;
  /** The last call, after all was erased. */
  close(): Promise<void>;
}
