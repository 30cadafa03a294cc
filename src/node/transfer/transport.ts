import type { TransportName } from '../../protocol/transfer.ts';
import type { Frame } from '../../protocol/transfer-frame.ts';

/** What a channel tells the end that listens to it. */
export interface ChannelListener {
  frame(frame: Frame): void;
  /** `writable` is true again. */
  drained(): void;
  /** Nothing comes or goes any more; not called after `close`. */
  closed(reason: string): void;
}

/** One end of the way between two nodes, for one transfer. Frames arrive whole and in order, or the channel closes. */
export interface Channel {
  /** False while more bytes wait for the network than is good; whoever sends all the same is held by credit alone. */
  readonly writable: boolean;
  /** The frame's buffers are the channel's from now on. */
  send(frame: Frame): void;
  /** Once. What came before is told first. */
  listen(listener: ChannelListener): void;
  /** What was sent still goes out; what still comes is late, and told to nobody as a frame. */
  close(): void;
}

/** Who is at the other end. */
export interface ChannelOf {
  readonly transfer: string;
  /** Id of the other node. */
  readonly peer: string;
}

/** A way for KV blocks between two nodes. Both ends give up by `signal`. */
export interface Transport {
  readonly name: TransportName;
  /** Decode side: opens its end. Rejects with the reason when there is no way to the peer. */
  open(of: ChannelOf, signal: AbortSignal): Promise<Channel>;
  /** Prefill side: the end that belongs to the one the peer opened, which may be there already or come soon. */
  accept(of: ChannelOf, signal: AbortSignal): Promise<Channel>;
  /** Ends all its channels, and opens no more. */
  close(): void;
}

/** Rejects when the signal aborts before `task` settles; `late` gets what comes after that. */
export function orAborted<T>(task: Promise<T>, signal: AbortSignal, late: (value: T) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    const aborted = () => reject(signal.reason);
    if (signal.aborted) aborted();
    else signal.addEventListener('abort', aborted, { once: true });
    task.then(
      (value) => {
        signal.removeEventListener('abort', aborted);
        if (signal.aborted) late(value);
        else resolve(value);
      },
      (error: unknown) => {
        signal.removeEventListener('abort', aborted);
        reject(error);
      },
    );
  });
}
