/** Something that a model of six million parameters can really do, to begin with. */
export interface Example {
  readonly kind: string;
  readonly prompt: string;
}

export const EXAMPLES: readonly Example[] = [
  { kind: 'Story', prompt: 'Tell me a story about a brave otter named Nora in the harbor with a blue lamp.' },
  {
    kind: 'Recall',
    prompt:
      'Remember these facts. The green locker holds a clock. Ada lives in Quito. The code for the attic is 1475. What is the code for the attic?',
  },
  { kind: 'Sum', prompt: 'What is 17 + 25?' },
  {
    kind: 'JSON',
    prompt: 'Write this as JSON with the keys name, city, age: Mia lives in Lisbon. Mia is 41 years old.',
  },
  { kind: 'Reverse', prompt: 'Say these words in reverse order: lantern, otter, Venus, cheese, Tuesday' },
  { kind: 'Explain', prompt: 'What is prefix caching?' },
];
