import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import * as z from 'zod';
import { CountTokensRequest, MessagesRequest } from '../../../src/frontend/anthropic/schema.ts';
import { ChatRequest } from '../../../src/frontend/chat-schema.ts';
import { CompletionRequest } from '../../../src/frontend/completion-schema.ts';
import { EmbeddingRequest } from '../../../src/frontend/embedding-schema.ts';
import { sharedFields } from '../../../src/frontend/request-fields.ts';
import { ResponsesRequest } from '../../../src/frontend/responses/schema.ts';
import { DetokenizeRequest, TokenizeRequest } from '../../../src/frontend/tokenize.ts';

const page = readFileSync(new URL('../../../docs/api.md', import.meta.url), 'utf8');

/** Fields of the table under a heading of docs/api.md, with the word of its second column. */
function tableOf(heading: string): Map<string, string> {
  const section = page.split(/^## /m).find((text) => text.startsWith(`${heading}\n`));
  if (section === undefined) throw new Error(`docs/api.md has no section "${heading}"`);
  const rows = [...section.matchAll(/^\| `([^`]+)` \| ([^|]+) \|/gm)];
  const table = new Map(rows.map(([, field = '', word = '']) => [field, word.trim()]));
  expect(table.size, `${heading} has a row twice`).toBe(rows.length);
  return table;
}

type Field = { readonly path: string; readonly schema: z.core.$ZodType };

/** All fields of a schema, those of objects in it as `outer.inner`, of lists as `outer[].inner`. */
function fieldsOf(schema: z.core.$ZodType, path = ''): Field[] {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault) return fieldsOf(schema.def.innerType, path);
  if (schema instanceof z.ZodPipe)
    return fieldsOf(schema.def.in instanceof z.ZodTransform ? schema.def.out : schema.def.in, path);
  if (schema instanceof z.ZodArray) return fieldsOf(schema.def.element, `${path}[]`);
  if (schema instanceof z.ZodUnion) return schema.def.options.flatMap((option) => fieldsOf(option, path));
  if (!(schema instanceof z.ZodObject)) return [];
  return Object.entries(schema.def.shape as Record<string, z.core.$ZodType>).flatMap(([name, inner]) => {
    const here = path === '' ? name : `${path}.${name}`;
    return [{ path: here, schema: inner }, ...fieldsOf(inner, here)];
  });
}

function wordOf(schema: z.core.$ZodType): string {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault) return wordOf(schema.def.innerType);
  if (schema instanceof z.ZodNever) return 'no';
  return schema instanceof z.ZodLiteral ? `only \`${JSON.stringify(schema.value)}\`` : 'yes';
}

function expectTold(schema: z.ZodObject, table: ReadonlyMap<string, string>): void {
  const fields = new Map<string, string>();
  // Where kinds of one object differ (a message's role), the field takes more than one value.
  for (const { path, schema: field } of fieldsOf(schema)) {
    const word = wordOf(field);
    fields.set(path, (fields.get(path) ?? word) === word ? word : 'yes');
  }
  const sorted = (words: ReadonlyMap<string, string>) => Object.fromEntries([...words].sort());
  expect(sorted(table)).toEqual(sorted(fields));
}

/** Without the fields that are as both endpoints have them. */
function own(schema: z.ZodObject): z.ZodObject {
  const shared = new Set<unknown>(Object.values(sharedFields));
  return z.strictObject(Object.fromEntries(Object.entries(schema.shape).filter(([, field]) => !shared.has(field))));
}

describe('docs/api.md tells every field of the schemas, and no other', () => {
  test('of both endpoints', () => {
    expectTold(z.strictObject(sharedFields), tableOf('Fields of both endpoints'));
  });
  test('/v1/chat/completions', () => {
    expectTold(own(ChatRequest), tableOf('`POST /v1/chat/completions`'));
  });
  test('/v1/completions', () => {
    expectTold(own(CompletionRequest), tableOf('`POST /v1/completions`'));
  });
  test('/v1/embeddings', () => {
    expectTold(EmbeddingRequest, tableOf('`POST /v1/embeddings`'));
  });
  test('/v1/responses', () => {
    expectTold(ResponsesRequest, tableOf('`POST /v1/responses`'));
  });
  test('/v1/messages', () => {
    expectTold(MessagesRequest, tableOf('`POST /v1/messages`'));
  });
  test('/v1/messages/count_tokens has fields of /v1/messages', () => {
    const known: Record<string, unknown> = MessagesRequest.shape;
    for (const [name, field] of Object.entries(CountTokensRequest.shape)) expect(known[name], name).toBe(field);
  });
  test('/tokenize', () => {
    expectTold(TokenizeRequest, tableOf('`POST /tokenize`'));
  });
  test('/detokenize', () => {
    expectTold(DetokenizeRequest, tableOf('`POST /detokenize`'));
  });
});
