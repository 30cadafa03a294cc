import type { ForwardCommand, ForwardEvent } from '../transfer/data-pipe.ts';

/** The page's half of a `ForwardedPipe`: carries what goes over `channel`, which cannot be moved, from and to `port`. */
export function forwardChannel(channel: RTCDataChannel, port: MessagePort): void {
  const tell = (event: ForwardEvent, moved?: ArrayBuffer) => port.postMessage(event, moved ? [moved] : []);
  let given = 0;
  let told = 0;
  const tellSent = () => {
    const sent = given - channel.bufferedAmount;
    if (sent > told) tell({ type: 'sent', bytes: sent - told });
    told = Math.max(told, sent);
  };
  channel.binaryType = 'arraybuffer';
  channel.onopen = () => tell({ type: 'open' });
  channel.onmessage = (event: MessageEvent<ArrayBuffer>) => tell({ type: 'message', data: event.data }, event.data);
  channel.onbufferedamountlow = tellSent;
  channel.onclose = () => tell({ type: 'closed' });
  port.onmessage = ({ data: command }: MessageEvent<ForwardCommand>) => {
    if (command.type === 'close') channel.close();
    else if (channel.readyState === 'open') {
      channel.send(command.data);
      given += command.data.byteLength;
      tellSent();
    }
  };
  if (channel.readyState === 'open') tell({ type: 'open' });
}
