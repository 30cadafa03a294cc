import type { NodeMessage } from './messages.ts';

type TokensMessage = Extract<NodeMessage, { type: 'tokens' }>;

const MAX_FRAMES = 4096;
const MAX_TOKENS = 4096;
const MAX_ATTEMPT = 1024;
const MAX_REQUEST = 128;

/**
 * Whether a parsed message is what nodes say at every step: `tokens` with nothing but ids in them. Then it is valid by the schema `NodeMessage`,
 * which would take as long as the rest of what the hub does with a token. false only says that the schema has to look.
 */
export function isPlainTokens(message: unknown): message is TokensMessage {
  if (!isObject(message) || message.type !== 'tokens' || !isCount(message.epoch)) return false;
  const { frames } = message;
  if (!Array.isArray(frames) || frames.length > MAX_FRAMES) return false;
  // Neither the frames nor the message have anything else, or the schema would drop it.
  for (const key in message) if (key !== 'type' && key !== 'epoch' && key !== 'frames') return false;
  for (const frame of frames) if (!isPlainFrame(frame)) return false;
  return true;
}

function isPlainFrame(frame: unknown): boolean {
  if (!isObject(frame)) return false;
  let required = 0;
  for (const key in frame) {
    const value = frame[key];
    switch (key) {
      case 'request':
        if (typeof value !== 'string' || value.length === 0 || value.length > MAX_REQUEST) return false;
        required += 1;
        break;
      case 'tokens':
        if (!areIds(value)) return false;
        required += 1;
        break;
      case 'attempt':
        if (!isCount(value) || value > MAX_ATTEMPT) return false;
        required += 1;
        break;
      case 'choice':
      case 'offset':
        if (!isCount(value)) return false;
        required += 1;
        break;
      case 'cachedTokens':
        if (!isCount(value)) return false;
        break;
      case 'finish':
        if (value !== 'stop' && value !== 'length' && value !== 'cancelled') return false;
        break;
      case 'stopId':
        if (!isId(value)) return false;
        break;
      default:
        return false;
    }
  }
  return required === 5;
}

function areIds(value: unknown): boolean {
  if (!Array.isArray(value) || value.length > MAX_TOKENS) return false;
  for (const id of value) if (!isId(id)) return false;
  return true;
}

const isId = (value: unknown): boolean => isCount(value) && value <= 0xffffffff;
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
