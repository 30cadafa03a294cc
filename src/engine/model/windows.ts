import { modelError } from '../model-error.ts';
import type { DecoderConfig } from './config-schema.ts';
import type { Kind } from './kinds.ts';

const WHERE = 'config.json';
/** HF's defaults where a config leaves the field out. */
const DEFAULT_MAX_WINDOW_LAYERS = 28;
const DEFAULT_PATTERN = 6;

/** Window of each layer; null = sees everything before it. Throws `EngineError` code `model` where the fields contradict each other. */
export function slidingWindows(c: DecoderConfig, kind: Kind): (number | null)[] {
  const named = c.sliding_window === undefined ? kind.defaultWindow : c.sliding_window;
  const switched = kind.window === 'config' || kind.window === 'switch';
  const on = kind.window !== 'none' && (!switched || c.use_sliding_window === true);
  const window = on ? named : null;
  const slides = (layer: number): boolean => {
    if (kind.window === 'config') return layer >= (c.max_window_layers ?? DEFAULT_MAX_WINDOW_LAYERS);
    const pattern = c._sliding_window_pattern ?? c.sliding_window_pattern ?? DEFAULT_PATTERN;
    return kind.window !== 'pattern' || (layer + 1) % pattern !== 0;
  };
  const plain = Array.from({ length: c.num_hidden_layers }, (_, layer) => (slides(layer) ? window : null));
  if (!c.layer_types) return plain;
  if (c.layer_types.length !== c.num_hidden_layers) {
    throw modelError(
      WHERE,
      `layer_types names ${c.layer_types.length} layers, num_hidden_layers is ${c.num_hidden_layers}.`,
    );
  }
  const free = kind.window === 'config' || kind.window === 'pattern';
  return c.layer_types.map((type, layer) => {
    if (type !== 'full_attention' && type !== 'sliding_attention') {
      throw modelError(WHERE, `layer_types: "${type}" is not supported. Supported: full_attention, sliding_attention.`);
    }
    const sliding = type === 'sliding_attention';
    if (sliding && window === null)
      throw modelError(WHERE, `layer_types: layer ${layer} slides, but the config has no sliding window.`);
    if (!free && sliding !== (plain[layer] !== null)) {
      throw modelError(WHERE, `layer_types: layer ${layer} is "${type}", which ${kind.architecture} does not mix.`);
    }
    return sliding ? window : null;
  });
}
