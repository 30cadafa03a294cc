/** The page's entry: starts the node's worker and the join that opening the page means, and draws. */
import { options, render } from 'preact';
import './styles/base.css';
import './styles/node.css';
import './styles/chat.css';
import './styles/cluster.css';
import { App } from './app.tsx';
import { startPage } from './controller.ts';
import { headless } from './state.ts';

/** Between two drawings while tokens stream. What lends a GPU must not spend it on showing that. */
const SEEN_MS = 50;
/** The same while nobody looks. */
const UNSEEN_MS = 250;

options.debounceRendering = (draw) => {
  setTimeout(draw, document.hidden || headless.peek() ? UNSEEN_MS : SEEN_MS);
};

const root = document.getElementById('app');
if (!root) throw new Error('index.html has no element #app.');

try {
  const controller = await startPage();
  root.replaceChildren();
  render(<App controller={controller} />, root);
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  root.textContent = `The page could not start: ${message}. Reload it; if that does not help, use a recent browser.`;
}
