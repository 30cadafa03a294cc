import type { NodeProblem } from '../node/snapshot.ts';
import { CopyButton } from './copy-button.tsx';
import { capability } from './state.ts';

/** Why this browser cannot lend its GPU, and what to do, best first. */
export function CapabilityNotice() {
  const found = capability.value;
  if (found.ok) return null;
  return (
    <div class="notice" role="alert" data-testid="capability" data-state={found.reason}>
      <p data-testid="problem">{found.message}</p>
      <ul>
        {found.steps.map(({ text, command }) => (
          <li key={text}>
            {text}
            {command !== undefined && (
              <span class="command">
                <code>{command}</code>
                <CopyButton text={command} what="command" />
              </span>
            )}
          </li>
        ))}
      </ul>
    </div>
  );
}

/** Why the node is refused, gone, or not connected. */
export function ProblemNotice({ problem }: { problem: NodeProblem }) {
  return (
    <div class="notice" role="alert" data-state={problem.code}>
      <p data-testid="problem">{problem.message}</p>
      {problem.code === 'software_adapter' && (
        <a class="button" href={withSoftwareAdapter(location.href)} data-testid="lend-software">
          Use the software adapter all the same
        </a>
      )}
    </div>
  );
}

/** The same address, asking for what the engine refuses by default. */
function withSoftwareAdapter(href: string): string {
  const url = new URL(href);
  url.searchParams.set('allow-software-adapter', 'true');
  return url.href;
}
