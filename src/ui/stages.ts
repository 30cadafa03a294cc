import type { NodePhase } from '../node/snapshot.ts';

interface StageWords {
  readonly title: string;
  /** What it means, in a cluster and alone. */
  readonly cluster: string;
  readonly solo: string;
}

/** What a person reads of each phase of a node's life. */
export const STAGES: Readonly<Record<NodePhase, StageWords>> = {
  idle: {
    title: 'Not lending',
    cluster: 'This page lends nothing now. The playground uses the other nodes.',
    solo: 'The model is not loaded. Start it to chat.',
  },
  joining: {
    title: 'Joining',
    cluster: 'Greeting the hub.',
    solo: 'Looking for the model beside this page.',
  },
  downloading: {
    title: 'Downloading',
    cluster: 'The model comes once; the browser keeps it for the next visit.',
    solo: 'The model comes once; the browser keeps it for the next visit.',
  },
  warming: {
    title: 'Warming up',
    cluster: 'Compiling shaders, then a self-test: only a GPU that computes right may serve.',
    solo: 'Compiling shaders, then a self-test of what they compute.',
  },
  ready: {
    title: 'Ready',
    cluster: 'This GPU answers requests of the cluster while the page is open.',
    solo: 'The model runs on this GPU. Nothing that you type leaves the page.',
  },
  reconnecting: {
    title: 'Reconnecting',
    cluster: 'The hub is out of reach. The model and its cache stay loaded.',
    solo: '',
  },
  draining: {
    title: 'Leaving',
    cluster: 'No new requests. Running ones get a few seconds to finish.',
    solo: 'Stopping, and freeing the GPU.',
  },
  refused: {
    title: 'Cannot lend',
    cluster: 'This page did not become a node.',
    solo: 'The model cannot run here.',
  },
  gone: {
    title: 'Gone',
    cluster: 'This page served the cluster, and no longer does.',
    solo: 'The model ran here, and no longer does.',
  },
};

/** The way to `ready`, in order. */
export const WAY: readonly NodePhase[] = ['joining', 'downloading', 'warming', 'ready'];
