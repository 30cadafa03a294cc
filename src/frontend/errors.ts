/** `error.type` of OpenAI's error object. */
export type ApiErrorType =
  | 'invalid_request_error'
  | 'authentication_error'
  | 'not_found_error'
  | 'rate_limit_error'
  | 'service_unavailable'
  | 'timeout_error'
  | 'internal_error';

export interface ApiErrorOptions extends ErrorOptions {
  /** `error.code`: a word for programs, e.g. `model_not_found`. */
  readonly code?: string;
  /** The request's field that is at fault. */
  readonly param?: string;
  /** Seconds after which trying again makes sense; sent as `retry-after`. */
  readonly retryAfter?: number;
}

/** The body of every error answer (https://platform.openai.com/docs/guides/error-codes). */
export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: ApiErrorType;
    readonly param: string | null;
    readonly code: string | null;
  };
}

/** An error that a client is told of: an HTTP status and OpenAI's error object. */
export class ApiError extends Error {
  readonly code: string | null;
  readonly param: string | null;
  readonly retryAfter: number | null;

  constructor(
    readonly status: number,
    readonly type: ApiErrorType,
    message: string,
    options: ApiErrorOptions = {},
  ) {
    super(message, options);
    this.name = 'ApiError';
    this.code = options.code ?? null;
    this.param = options.param ?? null;
    this.retryAfter = options.retryAfter ?? null;
  }

  body(): ErrorBody {
    return { error: { message: this.message, type: this.type, param: this.param, code: this.code } };
  }
}

/** 400: the request can never work as it is. `param` names the field at fault. */
export function badRequest(message: string, param?: string, code?: string): ApiError {
  return new ApiError(400, 'invalid_request_error', message, {
    ...(param === undefined ? {} : { param }),
    ...(code === undefined ? {} : { code }),
  });
}

/** 404: no such route. */
export function notFound(method: string, path: string): ApiError {
  return new ApiError(404, 'not_found_error', `There is no ${method} ${path.slice(0, 200)} here.`, {
    code: 'not_found',
  });
}

/** 503: nobody can compute this now; the client may try again after `retryAfter` seconds. */
export function unavailable(message: string, code: string, retryAfter = 1): ApiError {
  return new ApiError(503, 'service_unavailable', message, { code, retryAfter });
}

/** Any thrown value as an `ApiError`; what is not one becomes a 500 that tells nothing of the inside. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  return new ApiError(
    500,
    'internal_error',
    'The server failed while it answered this request. Try again; the log of the server has the cause.',
    { code: 'internal_error', cause: error },
  );
}
