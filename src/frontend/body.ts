import { ApiError, badRequest } from './errors.ts';

/**
 * Reads a request's JSON body. Throws `ApiError` 415 (content type is not JSON), 413 (more than `maxBytes`; refused while reading,
 * nothing beyond is taken in) or 400 (not UTF-8, not JSON).
 */
export async function readJson(request: Request, maxBytes: number): Promise<unknown> {
  const type = request.headers.get('content-type')?.split(';')[0]?.trim().toLowerCase();
  if (type !== 'application/json') {
    throw new ApiError(
      415,
      'invalid_request_error',
      `The body must be JSON: send it with 'content-type: application/json' (it came as ${type === undefined ? 'no type' : `'${type}'`}).`,
      { code: 'unsupported_media_type' },
    );
  }
  const bytes = await readBounded(request, maxBytes);
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw badRequest(`The body is no valid JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
}

async function readBounded(request: Request, maxBytes: number): Promise<Uint8Array> {
  const tooLarge = new ApiError(
    413,
    'invalid_request_error',
    `The body is larger than the ${maxBytes} bytes that this server takes.`,
    { code: 'request_too_large' },
  );
  if (Number(request.headers.get('content-length') ?? 0) > maxBytes) throw tooLarge;
  if (request.body === null) return new Uint8Array(0);
  const chunks: Uint8Array[] = [];
  let size = 0;
  const reader = request.body.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    size += next.value.byteLength;
    if (size > maxBytes) {
      await reader.cancel(tooLarge);
      throw tooLarge;
    }
    chunks.push(next.value);
  }
  const whole = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.byteLength;
  }
  return whole;
}
