import { ApiError } from './errors.ts';

/** Names of a chat's fields and what another API calls them. */
export type FieldNames = readonly (readonly [RegExp, string])[];

/** Does `work`, which names fields of a chat in its errors; they are told by the names of the API that was asked. */
export function inWordsOf<T>(names: FieldNames, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    const told = (text: string) => names.reduce((all, [from, to]) => all.replaceAll(from, to), text);
    throw new ApiError(error.status, error.type, told(error.message), {
      ...(error.code === null ? {} : { code: error.code }),
      ...(error.param === null ? {} : { param: told(`'${error.param}'`).slice(1, -1) }),
      ...(error.retryAfter === null ? {} : { retryAfter: error.retryAfter }),
      cause: error,
    });
  }
}
