import { describe, expect, test } from 'vitest';
import { type PeerCommand, type PeerEvent, Peers } from '../../../../src/node/page/peers.ts';
import { ForwardedPipe } from '../../../../src/node/transfer/data-pipe.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import { until } from '../../../support/until.ts';
import { settled } from './support.ts';

/** What `Peers` uses of a data channel. */
class FakeChannel {
  readyState = 'connecting';
  bufferedAmount = 0;
  binaryType = '';
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: ArrayBuffer }) => void) | null = null;
  onclose: (() => void) | null = null;
  onbufferedamountlow: (() => void) | null = null;
  readonly sent: ArrayBuffer[] = [];
  isClosed = false;

  send(data: ArrayBuffer): void {
    this.sent.push(data);
    this.bufferedAmount += data.byteLength;
  }

  close(): void {
    this.isClosed = true;
  }
}

/** What `Peers` uses of a connection. */
class FakeConnection {
  localDescription: { type: string; sdp: string } | null = null;
  connectionState = 'new';
  readonly remote: unknown[] = [];
  readonly channel = new FakeChannel();
  isClosed = false;
  onicecandidate: ((event: { candidate: { toJSON(): object } | null }) => void) | null = null;
  onconnectionstatechange: (() => void) | null = null;
  ondatachannel: ((event: { channel: FakeChannel }) => void) | null = null;

  createDataChannel(): FakeChannel {
    return this.channel;
  }

  async setLocalDescription(): Promise<void> {
    this.localDescription = { type: this.remote.length > 0 ? 'answer' : 'offer', sdp: 'v=0' };
  }

  async setRemoteDescription(description: unknown): Promise<void> {
    this.remote.push(description);
  }

  async addIceCandidate(candidate: unknown): Promise<void> {
    this.remote.push(candidate);
  }

  close(): void {
    this.isClosed = true;
  }
}

/** `canMove`: the browser can move data channels to a worker. */
function page(canMove: boolean) {
  const clock = new FakeClock();
  const connections: FakeConnection[] = [];
  const told: PeerEvent[] = [];
  const port = {
    onmessage: null as ((event: { data: PeerCommand }) => void) | null,
    postMessage(event: PeerEvent, moved: Transferable[]) {
      if (event.type === 'channel' && !canMove && !(event.channel instanceof MessagePort))
        throw new DOMException('cannot be cloned', 'DataCloneError');
      if (event.type === 'channel') expect(moved).toEqual([event.channel]);
      told.push(event);
    },
  };
  new Peers(port as unknown as MessagePort, clock, () => {
    const connection = new FakeConnection();
    connections.push(connection);
    return connection as unknown as RTCPeerConnection;
  });
  const say = (command: PeerCommand) => port.onmessage?.({ data: command });
  const of = <T extends PeerEvent['type']>(type: T) =>
    told.filter((event): event is Extract<PeerEvent, { type: T }> => event.type === type);
  return { clock, connections, told, say, of };
}

describe('X14: the WebRTC connections of a page', () => {
  test('the channel is moved in the same task that makes it, and the offer is told', async () => {
    const { say, of, connections } = page(true);
    say({ type: 'offer', transfer: 't' });
    expect(of('channel')).toEqual([
      { type: 'channel', transfer: 't', offered: true, channel: connections[0]?.channel },
    ]);
    await settled();
    expect(of('signal').map(({ data }) => JSON.parse(data))).toEqual([{ type: 'offer', sdp: 'v=0' }]);
  });

  test('an offer is answered, its channel moved when it comes, candidates are passed both ways', async () => {
    const { say, of, connections } = page(true);
    say({ type: 'signal', transfer: 't', data: JSON.stringify({ type: 'offer', sdp: 'theirs' }) });
    await settled();
    const [connection] = connections;
    expect(of('signal').map(({ data }) => JSON.parse(data))).toEqual([{ type: 'answer', sdp: 'v=0' }]);
    const candidate = { candidate: 'candidate:1', sdpMid: '0', sdpMLineIndex: 0, usernameFragment: 'u' };
    say({ type: 'signal', transfer: 't', data: JSON.stringify(candidate) });
    await settled();
    expect(connection?.remote).toEqual([{ type: 'offer', sdp: 'theirs' }, candidate]);
    connection?.onicecandidate?.({ candidate: { toJSON: () => candidate } });
    expect(JSON.parse(of('signal').at(-1)!.data)).toEqual(candidate);
    const channel = new FakeChannel();
    connection?.ondatachannel?.({ channel });
    expect(of('channel')).toEqual([{ type: 'channel', transfer: 't', offered: false, channel }]);
  });

  test('a connection that fails, or does not stand in time, is closed and told', async () => {
    const { say, of, connections, clock } = page(true);
    say({ type: 'offer', transfer: 'fails' });
    say({ type: 'offer', transfer: 'slow' });
    say({ type: 'offer', transfer: 'stands' });
    connections[0]!.connectionState = 'failed';
    connections[0]!.onconnectionstatechange?.();
    connections[2]!.connectionState = 'connected';
    connections[2]!.onconnectionstatechange?.();
    clock.advance(60_000);
    expect(of('failed').map(({ transfer }) => transfer)).toEqual(['fails', 'slow']);
    expect(connections.map(({ isClosed }) => isClosed)).toEqual([true, true, false]);
    say({ type: 'close', transfer: 'stands' });
    expect(connections[2]!.isClosed).toBe(true);
  });

  test('connections are bounded, also those that the other side begins', () => {
    const { say, of, connections } = page(true);
    for (let i = 0; i < 40; i++)
      say({ type: 'signal', transfer: `t${i}`, data: JSON.stringify({ type: 'offer', sdp: '' }) });
    expect(connections).toHaveLength(32);
    expect(of('failed')).toHaveLength(8);
    say({ type: 'close_all' });
    expect(connections.every(({ isClosed }) => isClosed)).toBe(true);
  });

  test.each(['no JSON', '{}', '{"type":"rollback","sdp":""}', '[]'])(
    'a signal that is %s ends the connection',
    (data) => {
      const { say, of } = page(true);
      say({ type: 'offer', transfer: 't' });
      say({ type: 'signal', transfer: 't', data });
      expect(of('failed')[0]?.message).toContain('cannot be read');
    },
  );

  test('signals for a connection that is not there are nothing', () => {
    const { say, told, connections } = page(true);
    say({ type: 'signal', transfer: 't', data: JSON.stringify({ type: 'answer', sdp: '' }) });
    expect(told).toEqual([]);
    expect(connections).toEqual([]);
  });

  test('where the browser cannot move a channel, the page forwards what goes over it', async () => {
    const { say, of, connections } = page(false);
    say({ type: 'offer', transfer: 't' });
    const port = of('channel')[0]?.channel;
    if (!(port instanceof MessagePort)) throw new Error('no port came');
    const { channel } = connections[0]!;
    const pipe = new ForwardedPipe(port);
    const heard: string[] = [];
    pipe.onopen = () => heard.push('open');
    pipe.onmessage = ({ data }: MessageEvent<ArrayBuffer>) => heard.push(`message ${data.byteLength}`);
    pipe.onclose = () => heard.push('closed');
    pipe.bufferedAmountLowThreshold = 50;
    pipe.onbufferedamountlow = () => heard.push('low');
    expect(() => pipe.send(new Uint8Array(1))).toThrow('not open');
    channel.readyState = 'open';
    channel.onopen?.();
    await until(() => heard.length === 1);
    pipe.send(new Uint8Array(100));
    expect(pipe.bufferedAmount).toBe(100);
    await until(() => channel.sent.length > 0);
    expect(channel.sent.map(({ byteLength }) => byteLength)).toEqual([100]);
    expect(pipe.bufferedAmount).toBe(100);
    channel.bufferedAmount = 0;
    channel.onbufferedamountlow?.();
    await until(() => heard.length === 2);
    expect(pipe.bufferedAmount).toBe(0);
    channel.onmessage?.({ data: new ArrayBuffer(7) });
    pipe.close();
    await until(() => channel.isClosed);
    channel.onclose?.();
    await until(() => heard.at(-1) === 'closed');
    expect(heard).toEqual(['open', 'low', 'message 7', 'closed']);
    expect(pipe.readyState).toBe('closed');
  });
});
