import { once } from 'node:events';
import { WebSocket } from 'ws';
import type { ScriptedNode } from './scripted-node.ts';

/** A node's bulk socket to a real hub, in the hands of the test. */
export class ScriptedBulk {
  /** What came, without what stands before the frames. */
  readonly frames: Buffer[] = [];
  readonly closed: Promise<{ code: number; reason: string }>;

  private constructor(readonly socket: WebSocket) {
    this.closed = new Promise((resolve) =>
      socket.once('close', (code, reason) => resolve({ code, reason: reason.toString() })),
    );
    socket.on('error', () => {});
    socket.on('message', (data: Buffer) => this.frames.push(data.subarray(2 + data.readUInt16LE(0))));
  }

  /** Opens the socket and says nothing. Rejects when the hub refuses the upgrade. */
  static async open(hubUrl: string, headers: Record<string, string> = {}): Promise<ScriptedBulk> {
    const socket = new WebSocket(`${hubUrl.replace(/^http/, 'ws')}/cluster/bulk`, { headers });
    const bulk = new ScriptedBulk(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once('open', () => resolve());
      socket.once('error', reject);
    });
    return bulk;
  }

  /** Opens as the node. */
  static async join(hubUrl: string, node: ScriptedNode, token = node.welcome?.resumeToken): Promise<ScriptedBulk> {
    const bulk = await ScriptedBulk.open(hubUrl);
    bulk.socket.send(JSON.stringify({ type: 'bulk', node: node.id, token }));
    return bulk;
  }

  /** Resolves when the hub has read all that was sent. */
  async heard(): Promise<void> {
    this.socket.ping();
    await once(this.socket, 'pong');
  }

  send(transfer: string, frame: Uint8Array, written?: () => void): void {
    const id = Buffer.from(transfer);
    const prefix = Buffer.alloc(2);
    prefix.writeUInt16LE(id.length);
    this.socket.send(Buffer.concat([prefix, id, frame]), written);
  }
}
