// A thread of Node's does not inherit who reads TypeScript.
import { register } from 'tsx/esm/api';

register();
await import('./serve-grammars.ts');
