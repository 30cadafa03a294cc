import { serveStatic } from '@hono/node-server/serve-static';
import { Hono } from 'hono';

/** Vite names these files by their content. */
const HASHED = /[\\/]assets[\\/]/;

/** The built page: `/` and its files. null = there is none, and `/` says so. */
export function pageRoutes(folder: string | null): Hono {
  const routes = new Hono();
  if (folder !== null) {
    routes.use(
      '/*',
      serveStatic({
        root: folder,
        onFound: (path, c) =>
          c.header('cache-control', HASHED.test(path) ? 'public, max-age=31536000, immutable' : 'no-cache'),
      }),
    );
  }
  routes.get('/', (c) =>
    c.text('This hub has no page: it was started without one. Build it with `npm run build`.', 404),
  );
  return routes;
}
