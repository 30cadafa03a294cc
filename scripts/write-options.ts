/** Writes docs/options.md from the options table. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { optionsMarkdown } from '../src/config/help.ts';

mkdirSync(new URL('../docs/', import.meta.url), { recursive: true });
writeFileSync(new URL('../docs/options.md', import.meta.url), optionsMarkdown());
