import type { Handler } from '../ports.ts';
import type { KvPublisher } from './publishers.ts';

/**
 * Answers a router that knows nothing of a rank's prefix cache, or has missed something: the whole of it, whatever range was asked for (the routers of 1.4.0 lose
 * blocks by anything less).
 */
export function recoveryHandler(publisher: Pick<KvPublisher, 'treeDump'>): Handler {
  return async (_body, reply) => {
    reply.accept();
    await reply.item(publisher.treeDump(), 'bare');
    reply.end();
  };
}
