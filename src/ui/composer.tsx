import { useRef } from 'preact/hooks';
import type { Chat } from './chat.ts';
import { alone, chatBusy } from './state.ts';

/** Where a question is written: Enter sends, Shift+Enter breaks the line, Escape stops the answer. */
export function Composer({ chat }: { chat: Chat }) {
  const field = useRef<HTMLTextAreaElement>(null);
  const busy = chatBusy.value;
  const send = () => {
    const question = field.current?.value.trim();
    if (!field.current || !question || chatBusy.value) return;
    field.current.value = '';
    void chat.send(question);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === 'Escape' && busy) chat.stop();
    // Enter that ends the composition of a character (Chinese, Japanese, Korean) sends nothing.
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  };
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <label class="unseen" for="prompt">
        Your question
      </label>
      <textarea
        id="prompt"
        data-testid="prompt"
        ref={field}
        rows={2}
        placeholder={alone.value ? 'Ask the model …' : 'Ask the cluster …'}
        onKeyDown={onKeyDown}
      />
      {busy ? (
        <button type="button" class="stop" data-testid="stop" onClick={() => chat.stop()}>
          Stop
        </button>
      ) : (
        <button type="submit" class="primary" data-testid="send">
          Send
        </button>
      )}
    </form>
  );
}
