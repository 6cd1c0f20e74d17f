import diagnostics from 'node:diagnostics_channel';
import type { ClientRequest } from 'node:http';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { HubRestClient } from '../../../lib/azure/hub-rest.ts';
import { tableClient } from '../../../lib/azure/tables.ts';
import { vaultRootStore } from '../../../lib/azure/vault.ts';
import { runActivity } from '../../../lib/telemetry/activity.ts';
import { parseTraceparent } from '../../../lib/telemetry/trace-context.ts';
import { createLog } from '../../../lib/telemetry.ts';
import { type Doubles, startDoubles } from '../../support/doubles.ts';
import { uniqueTable } from '../../support/tables.ts';

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
const sent: { host: string; path: string; traceparent: unknown }[] = [];
let doubles: Doubles;

/** Every request that leaves this process, whoever makes it. */
function watch(message: unknown): void {
  const { request } = message as { request: ClientRequest };
  // What storage's proxy passes on, in this process too, goes out as raw headers, of which none can be asked for.
  if (request.getHeader('host') === undefined) return;
  sent.push({ host: request.host, path: request.path, traceparent: request.getHeader('traceparent') });
}

beforeAll(async () => {
  doubles = await startDoubles();
  diagnostics.subscribe('http.client.request.start', watch);
});
afterAll(async () => {
  diagnostics.unsubscribe('http.client.request.start', watch);
  await doubles.close();
});

async function within<T>(run: () => Promise<T>): Promise<typeof sent> {
  sent.length = 0;
  const parent = parseTraceparent(`00-${traceId}-00f067aa0ba902b7-01`);
  await runActivity({ name: 'test', parent, log: () => createLog(() => {}) }, run).catch(() => {});
  return [...sent];
}

it('what goes to tables, vault and hub names the trace, and what goes to Entra ID does not', async () => {
  const tables = await within(() => tableClient(doubles)(uniqueTable()).get('a', 'b'));
  const store = vaultRootStore(doubles);
  const record = { kind: 'public', objectName: 'nothing', version: 'v' } as const;
  const vault = await within(() => store.read(record));
  const credential = { getToken: async () => ({ token: 't', expiresOnTimestamp: Date.now() + 3_600_000 }) };
  // Nobody answers there: what would be sent is what counts.
  const { agent } = doubles;
  const hub = new HubRestClient({ hostname: 'localhost', agent, credential, timeoutMs: 300 });
  const toHub = await within(() => hub.call('GET', '/devices/d?api-version=1'));
  // The vault's client asks for its token first.
  const asksForToken = ({ path }: { path: string }) => path.includes('resource=');
  for (const calls of [tables, vault.filter((each) => !asksForToken(each)), toHub]) {
    expect(calls.length).toBeGreaterThan(0);
    for (const { traceparent } of calls) expect(traceparent).toContain(`00-${traceId}-`);
  }
  const token = vault.filter(asksForToken);
  expect(token.length).toBeGreaterThan(0);
  for (const { traceparent } of token) expect(traceparent).toBeUndefined();
});

it('and nothing is named outside of a request', async () => {
  sent.length = 0;
  await tableClient(doubles)(uniqueTable()).get('a', 'b');
  expect(sent.map(({ traceparent }) => traceparent)).toEqual([undefined]);
});
