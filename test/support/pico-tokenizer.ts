import { readFileSync } from 'node:fs';
import { type ChatTokenizer, loadChatTokenizer } from '../../src/frontend/tokenizer.ts';

const json = (file: string): unknown =>
  JSON.parse(readFileSync(new URL(`../../models/quire-pico/${file}`, import.meta.url), 'utf8'));

/** The tokenizer of the embedded model. */
export const picoTokenizer = (): ChatTokenizer =>
  loadChatTokenizer({ tokenizerJson: json('tokenizer.json'), tokenizerConfig: json('tokenizer_config.json') });
