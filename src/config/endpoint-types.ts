/** Calls for tokens and embeddings that a hub may serve or not (`--endpoint-types`). */
export const ENDPOINT_TYPES = ['chat', 'completions', 'embeddings', 'responses', 'messages'] as const;
export type EndpointType = (typeof ENDPOINT_TYPES)[number];
