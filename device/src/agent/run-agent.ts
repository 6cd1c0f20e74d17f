import { type RunOptions, type RunResult, run } from '../run.ts';
import { type AgentSessionOptions, documentOf, openAgentSession } from './connect-agent.ts';

/**
 * Sends the input as telemetry of this host's own identity, as `run` does with a document. Whenever a connection is lost,
 * or could not be opened, all steps are taken again, from the identity on: the device may have another hub meanwhile.
 */
export function runAgent(
  agent: AgentSessionOptions,
  options: Pick<RunOptions, 'input' | 'log' | 'signal' | 'waitMs' | 'flushMs' | 'stopMs' | 'backoff'>,
): Promise<RunResult> {
  const { protocol } = agent;
  return run({
    ...options,
    protocol,
    document: unknownYet,
    // The run itself waits between tries, and says so. What it still has to deliver after a stop may need a new session.
    open: ({ sdkRetries }) => openAgentSession({ ...agent, sdkRetries, waitMs: 0, signal: undefined }),
  });
}

/** Who this host is, is asked for each session. */
const unknownYet = documentOf(
  {
    identity: {
      hub: 'unknown.invalid',
      gateway: undefined,
      deviceId: 'unknown',
      moduleId: undefined,
      generationId: undefined,
      credential: { kind: 'sas', keyHandle: 'unknown' },
    },
    connectionString: '',
  },
  '',
  {},
);
