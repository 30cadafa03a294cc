import type { PageStage } from '../node/snapshot.ts';

interface StageWords {
  readonly title: string;
  readonly meaning: string;
}

const KEPT = 'The model comes once; the browser keeps it for the next visit.';

/** What a person reads of each stage of a node's life, as part of a cluster and alone. */
export const STAGES: Readonly<Record<'cluster' | 'solo', Readonly<Record<PageStage, StageWords>>>> = {
  cluster: {
    idle: { title: 'Not lending', meaning: 'This page lends nothing now. The playground uses the other nodes.' },
    joining: { title: 'Joining', meaning: 'Greeting the hub.' },
    downloading: { title: 'Downloading', meaning: KEPT },
    warming: {
      title: 'Warming up',
      meaning: 'Compiling shaders, then a self-test: only a GPU that computes right may serve.',
    },
    ready: { title: 'Ready', meaning: 'This GPU answers requests of the cluster while the page is open.' },
    asleep: {
      title: 'Asleep',
      meaning: 'The hub put this node to sleep: the GPU is free for other things. It comes back without a reload.',
    },
    reconnecting: {
      title: 'Reconnecting',
      meaning: 'The hub is out of reach. The model and its cache stay loaded.',
    },
    draining: { title: 'Leaving', meaning: 'No new requests. It ends with the last one that runs.' },
    refused: { title: 'Cannot lend', meaning: 'This page did not become a node.' },
    gone: { title: 'Gone', meaning: 'This page served the cluster, and no longer does.' },
  },
  solo: {
    idle: { title: 'Stopped', meaning: 'The model is not loaded. Start it to chat.' },
    joining: { title: 'Starting', meaning: 'Looking for the model.' },
    downloading: {
      title: 'Loading',
      meaning: 'A model beside the page is downloaded once and kept; one of your own is read from this device.',
    },
    warming: { title: 'Warming up', meaning: 'Compiling shaders, then a self-test of what they compute.' },
    ready: { title: 'Ready', meaning: 'The model runs on this GPU. Nothing that you type leaves the page.' },
    asleep: { title: 'Asleep', meaning: '' },
    reconnecting: { title: 'Reconnecting', meaning: '' },
    draining: { title: 'Stopping', meaning: 'Freeing the GPU.' },
    refused: { title: 'Cannot run', meaning: 'The model did not start in this browser.' },
    gone: { title: 'Gone', meaning: 'The model ran here, and no longer does.' },
  },
};

/** The way to `ready`, in order. */
export const WAY: readonly PageStage[] = ['joining', 'downloading', 'warming', 'ready'];
