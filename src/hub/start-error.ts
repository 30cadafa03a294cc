/** A hub that cannot start: bad model folder, busy port. The message is one line that says what to do. */
export class HubStartError extends Error {
  override name = 'HubStartError';
}
