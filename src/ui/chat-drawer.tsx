import type { TargetedFocusEvent, TargetedKeyboardEvent } from 'preact';
import type { Controller } from './controller.ts';
import { chatSettings } from './state.ts';

const DEFAULT_TEMPERATURE = 0.7;
const LARGEST_ANSWER = 4096;

/** How answers are sampled and how long they may get. */
export function ChatDrawer({ controller }: { controller: Controller }) {
  const { temperature, maxTokens } = chatSettings.value;
  const own = temperature === null;
  return (
    <details class="drawer" onKeyDown={closeOnEscape} onFocusOut={closeWhenLeft}>
      <summary data-testid="settings">Settings</summary>
      <div class="drawer-body">
        <label class="row">
          <input
            type="checkbox"
            data-testid="own-temperature"
            checked={own}
            onChange={({ currentTarget }) =>
              controller.setChatSettings({ temperature: currentTarget.checked ? null : DEFAULT_TEMPERATURE })
            }
          />
          The model’s own sampling
        </label>
        <label class="row" for="temperature">
          <span>Temperature</span>
          <output>{own ? '–' : temperature.toFixed(1)}</output>
        </label>
        <input
          id="temperature"
          data-testid="temperature"
          type="range"
          min={0}
          max={2}
          step={0.1}
          disabled={own}
          value={temperature ?? DEFAULT_TEMPERATURE}
          onInput={({ currentTarget }) => controller.setChatSettings({ temperature: Number(currentTarget.value) })}
        />
        <p class="quiet hint">0 always takes the likeliest token.</p>
        <label class="row" for="max-tokens">
          <span>Answer limit, in tokens</span>
          <input
            id="max-tokens"
            data-testid="max-tokens"
            type="number"
            inputMode="numeric"
            min={1}
            max={LARGEST_ANSWER}
            value={maxTokens}
            onChange={({ currentTarget }) => {
              const asked = Math.round(Number(currentTarget.value)) || 1;
              controller.setChatSettings({ maxTokens: Math.min(LARGEST_ANSWER, Math.max(1, asked)) });
            }}
          />
        </label>
      </div>
    </details>
  );
}

function closeOnEscape({ key, currentTarget }: TargetedKeyboardEvent<HTMLDetailsElement>): void {
  if (key !== 'Escape') return;
  currentTarget.open = false;
  currentTarget.querySelector('summary')?.focus();
}

/** The drawer covers the conversation, so it goes when the focus does. */
function closeWhenLeft({ relatedTarget, currentTarget }: TargetedFocusEvent<HTMLDetailsElement>): void {
  if (relatedTarget instanceof Node && !currentTarget.contains(relatedTarget)) currentTarget.open = false;
}
