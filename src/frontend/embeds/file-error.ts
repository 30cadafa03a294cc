/** What was read is not a saved tensor of the kind that is read here. The message is a clause: what it is, and what to do instead. */
export class TensorFileError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'TensorFileError';
  }
}

/** A name of the file, short enough to be shown. */
export const shown = (name: string): string => JSON.stringify(name.length > 80 ? `${name.slice(0, 80)}...` : name);
