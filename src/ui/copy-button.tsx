import { useSignal } from '@preact/signals';

const SHOWN_MS = 1600;

/** Copies `text`; where the browser gives no clipboard (insecure pages), asks to copy by hand. */
export function CopyButton({ text, what }: { text: string; what: string }) {
  const said = useSignal<string | null>(null);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      said.value = 'Copied';
    } catch {
      said.value = 'Copy by hand';
    }
    setTimeout(() => {
      said.value = null;
    }, SHOWN_MS);
  };
  return (
    <button type="button" class="small" aria-label={`Copy the ${what}`} onClick={() => void copy()}>
      <span aria-live="polite">{said.value ?? 'Copy'}</span>
    </button>
  );
}
