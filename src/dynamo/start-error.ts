/** A bridge that cannot start: no folder, a bad address, a model that Dynamo's frontends could not read. The message is one line that says what to do. */
export class BridgeStartError extends Error {
  override name = 'BridgeStartError';
}
