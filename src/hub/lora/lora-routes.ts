import { Hono, type MiddlewareHandler } from 'hono';
import * as z from 'zod';
import { readJson } from '../../frontend/body.ts';
import { ApiError, badRequest } from '../../frontend/errors.ts';
import type { LoraDesk } from './lora-desk.ts';

const MAX_BODY_BYTES = 64 << 10;
const Named = z.object({ lora_name: z.string().max(4096) });

/** Loading and unloading of LoRA adapters; vLLM's calls, but by name alone: nothing that a request says is opened. */
export function loraRoutes(admin: MiddlewareHandler, loras: LoraDesk): Hono {
  const routes = new Hono();
  routes.post('/v1/load_lora_adapter', admin, async (c) => {
    const name = nameOf(await readJson(c.req.raw, MAX_BODY_BYTES));
    await loras.load(name);
    return c.text(`Success: LoRA adapter '${name}' added successfully.`);
  });
  routes.post('/v1/unload_lora_adapter', admin, async (c) => {
    const name = nameOf(await readJson(c.req.raw, MAX_BODY_BYTES));
    loras.unload(name);
    return c.text(`Success: LoRA adapter '${name}' removed successfully.`);
  });
  routes.onError((error) => {
    if (!(error instanceof ApiError)) throw error;
    const retry = error.retryAfter === null ? {} : { headers: { 'retry-after': String(error.retryAfter) } };
    return Response.json(error.body(), { status: error.status, ...retry });
  });
  return routes;
}

/** Throws `ApiError` 400 that names what is not taken. */
function nameOf(body: unknown): string {
  const read = Named.safeParse(body);
  if (!read.success) throw badRequest("'lora_name' is the name of a LoRA adapter: a text.", 'lora_name');
  const other = Object.keys(body as object).find((field) => field !== 'lora_name');
  if (other !== undefined) {
    const why =
      'adapters are loaded by name alone, from --lora-dir and --lora-modules; no path or address of a request is opened';
    throw badRequest(`'${other.slice(0, 128)}' is not taken: ${why}.`, other.slice(0, 128));
  }
  const { lora_name } = read.data;
  // A name that could be a path is refused as such, before anybody looks for it.
  if (/[/\\:\0]/.test(lora_name) || /^\.*$/.test(lora_name))
    throw badRequest(
      `'lora_name' is a plain name, no path and no address, and '${lora_name.slice(0, 128)}' could be one.`,
      'lora_name',
    );
  return lora_name;
}
