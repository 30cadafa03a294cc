import { defineConfig } from 'vite';
import { embedModel } from './scripts/embed-model.ts';

/** `vite build`: the page that a hub serves, dist/page. `vite build --mode solo`: the same page without a hub, dist/solo. */
export default defineConfig(({ mode }) => {
  const solo = mode === 'solo';
  return {
    // A solo page is served from any folder of any server.
    base: solo ? './' : '/',
    publicDir: false,
    plugins: solo ? [embedModel('models/quire-pico')] : [],
    oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
    worker: { format: 'es' },
    build: {
      outDir: solo ? 'dist/solo' : 'dist/page',
      emptyOutDir: true,
      target: 'es2023',
      // The hub's Content-Security-Policy allows neither data: nor inline scripts.
      assetsInlineLimit: 0,
      modulePreload: { polyfill: false },
      rolldownOptions: {
        onLog(level, log, handle) {
          // The grammar engine names modules of Node that it only loads there.
          if (log.message.includes('web-xgrammar') && log.message.includes('externalized')) return;
          handle(level, log);
        },
      },
    },
  };
});
