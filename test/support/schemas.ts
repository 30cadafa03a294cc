/** Schemas that structured output is tried with: what clients send, each keyword that is understood, and what makes grammars hard. */
export const SCHEMAS: Readonly<Record<string, object>> = {
  'an object with required properties, no others': {
    type: 'object',
    properties: { name: { type: 'string', maxLength: 12 }, age: { type: 'integer', minimum: 0, maximum: 150 } },
    required: ['name', 'age'],
    additionalProperties: false,
  },
  'optional properties, in any selection': {
    type: 'object',
    properties: {
      a: { type: 'boolean' },
      b: { type: 'null' },
      c: { type: 'integer', minimum: -3, maximum: 3 },
      d: { enum: ['x', 'y'] },
    },
    required: ['c'],
    additionalProperties: false,
  },
  'enums of all types': { enum: ['red', 'gr"een', '\\back\n', 'ünïcödé 🦊', 7, -1.5, true, null] },
  'nested objects and arrays': {
    type: 'object',
    properties: {
      points: {
        type: 'array',
        items: {
          type: 'object',
          properties: { x: { type: 'number', minimum: 0, maximum: 1 }, y: { type: 'number', exclusiveMinimum: -2.5 } },
          required: ['x', 'y'],
          additionalProperties: false,
        },
        minItems: 1,
        maxItems: 3,
      },
    },
    required: ['points'],
    additionalProperties: false,
  },
  'integers between bounds': {
    type: 'array',
    items: { type: 'integer', exclusiveMinimum: -12, maximum: 1034 },
    minItems: 4,
    maxItems: 4,
  },
  'numbers between bounds': {
    type: 'array',
    items: { type: 'number', minimum: -1.25, exclusiveMaximum: 0.7 },
    minItems: 4,
    maxItems: 4,
  },
  'any numbers': { type: 'array', items: { type: 'number' }, minItems: 3, maxItems: 3 },
  'strings between lengths': {
    type: 'array',
    items: { type: 'string', minLength: 2, maxLength: 5 },
    minItems: 3,
    maxItems: 3,
  },
  'strings by patterns': {
    type: 'object',
    properties: {
      plate: { type: 'string', pattern: '^[A-Z]{2,3}-\\d{3}$' },
      quoted: { type: 'string', pattern: '^"[^"\\\\a]{1,4}\\\\é?\\n$' },
    },
    required: ['plate', 'quoted'],
    additionalProperties: false,
  },
  'strings by formats': {
    type: 'object',
    properties: {
      day: { type: 'string', format: 'date' },
      at: { type: 'string', format: 'date-time' },
      id: { type: 'string', format: 'uuid' },
      ip: { type: 'string', format: 'ipv4' },
    },
    required: ['day', 'at', 'id', 'ip'],
    additionalProperties: false,
  },
  'anyOf and several types': {
    type: 'array',
    items: { anyOf: [{ type: ['boolean', 'null'] }, { const: 'yes' }, { type: 'integer', minimum: 5, maximum: 5 }] },
    minItems: 5,
    maxItems: 5,
  },
  tuples: {
    type: 'array',
    prefixItems: [{ type: 'integer', maximum: 9, minimum: 0 }, { type: 'boolean' }],
    items: { enum: ['z'] },
    minItems: 3,
    maxItems: 4,
  },
  'other properties that are none of the named': {
    type: 'object',
    properties: { ab: { type: 'integer', minimum: 0, maximum: 9 }, abc: { type: 'null' } },
    required: ['ab'],
    additionalProperties: { type: 'boolean' },
  },
  'integers of a factor': {
    type: 'object',
    properties: {
      dozen: { type: 'integer', multipleOf: 12, minimum: -40, maximum: 1000 },
      seven: { type: 'number', multipleOf: 7 },
      hundred: { type: 'integer', multipleOf: 100, exclusiveMinimum: 300 },
    },
    required: ['dozen', 'seven', 'hundred'],
    additionalProperties: false,
  },
  'names by patterns': {
    type: 'object',
    properties: { id: { type: 'integer', minimum: 0, maximum: 9 } },
    patternProperties: {
      '^s_': { type: 'boolean' },
      '^n[0-9]{1,2}$': { type: 'integer', multipleOf: 5, minimum: 0, maximum: 50 },
    },
    required: ['id'],
    additionalProperties: false,
  },
  'all of several': {
    allOf: [
      {
        type: 'object',
        properties: { name: { type: 'string', maxLength: 6 }, size: { type: 'number', minimum: 1 } },
        required: ['name'],
      },
      { properties: { size: { type: 'integer', maximum: 12 }, on: { type: 'boolean' } }, required: ['size'] },
      { required: ['on'] },
    ],
  },
  'a choice beside properties': {
    type: 'object',
    properties: { a: { type: 'integer', minimum: 0, maximum: 9 }, b: { enum: ['x', 'y'] } },
    anyOf: [{ required: ['a'] }, { required: ['b'] }],
  },
  'a reference with more beside it': {
    $defs: { count: { type: 'integer', minimum: 3, multipleOf: 4 } },
    type: 'array',
    items: { $ref: '#/$defs/count', maximum: 40, multipleOf: 6 },
    minItems: 3,
    maxItems: 3,
  },
  references: {
    $defs: {
      color: { enum: ['red', 'blue'] },
      pair: { type: 'array', items: { $ref: '#/$defs/color' }, minItems: 2, maxItems: 2 },
    },
    type: 'object',
    properties: { first: { $ref: '#/$defs/pair' }, second: { $ref: '#/$defs/color' } },
    required: ['first', 'second'],
    additionalProperties: false,
  },
  'a recursive list': {
    $ref: '#/$defs/node',
    $defs: {
      node: {
        type: 'object',
        properties: {
          value: { type: 'integer', minimum: 1, maximum: 5 },
          next: { anyOf: [{ type: 'null' }, { type: 'null' }, { $ref: '#/$defs/node' }] },
        },
        required: ['value', 'next'],
        additionalProperties: false,
      },
    },
  },
  'one of objects that a constant tells apart': {
    oneOf: [
      {
        type: 'object',
        properties: { kind: { const: 'a' }, x: { type: 'integer', minimum: 0, maximum: 9 } },
        required: ['kind', 'x'],
        additionalProperties: false,
      },
      { type: 'object', properties: { kind: { const: 'b' } }, required: ['kind'], additionalProperties: false },
    ],
  },
};
