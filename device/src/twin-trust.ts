import type { Client, ModuleClient, Twin } from 'azure-iot-device';
import manifest from '../package.json' with { type: 'json' };
import { reasonOf } from './errors.ts';
import type { Keeper } from './keeper.ts';
import type { Session } from './session.ts';
import { withTimeout } from './timeout.ts';

export interface TwinTrustOptions {
  session: Pick<Session, 'client' | 'followDesired'>;
  keeper: Keeper;
  log(line: string): void;
  /** Aborted when the session ends: what is under way then is waited for no longer, and no fault. */
  ended: AbortSignal;
  /** For each operation. Default 30 000. */
  timeoutMs?: number | undefined;
}

type Properties = Record<string, unknown> | undefined;

const source = "the twin's desired properties";

/**
 * Trust by way of the gateway: reads the twin's desired property `gatepost.trust` and what becomes of it, and reports in
 * `gatepost.trust` what is installed here. A device without any Internet learns of new roots so. Never throws: a
 * gateway without twins still takes telemetry.
 */
export async function followTwin(options: TwinTrustOptions): Promise<void> {
  const { keeper, log, ended } = options;
  const { client, followDesired } = options.session;
  const timeoutMs = options.timeoutMs ?? 30_000;
  try {
    await withTimeout(followDesired(), timeoutMs, 'subscribing to the twin', ended);
    // An unanswered getTwin of the SDK waits for ever.
    const twin = await withTimeout(client.getTwin(), timeoutMs, 'reading the twin', ended);
    const first = desiredTrust(twin.properties.desired);
    let seen = JSON.stringify(first);
    const follow = async (patch: unknown) => {
      const trust = desiredTrust(patch);
      if (trust === undefined || JSON.stringify(trust) === seen) return;
      seen = JSON.stringify(trust);
      // The twin object of the SDK merges lists element by element (twin.ts, _mergePatch), so that a root that left
      // stays in it: what is believed is the patch itself, or else the whole twin, read anew.
      const isWhole = 'sequence' in trust && 'roots' in trust;
      const whole = isWhole ? trust : desiredTrust((await reread(client, timeoutMs, ended)).properties.desired);
      if ((await keeper.offerTrust(whole, source)) === 'installed') await acknowledge(twin, keeper, timeoutMs, ended);
    };
    // Before anything that is waited for: what changes meanwhile must not go by unheard.
    twin.on('properties.desired', (patch: unknown) => {
      follow(patch).catch((error: unknown) => {
        if (!ended.aborted) log(`trust: the twin cannot be followed. ${reasonOf(error)}`);
      });
    });
    twin.on('error', () => {});
    if (first !== undefined) await keeper.offerTrust(first, source);
    await acknowledge(twin, keeper, timeoutMs, ended);
  } catch (error) {
    if (ended.aborted) return;
    log(`trust: the twin cannot be read, new roots come from the API only. ${reasonOf(error)}`);
  }
}

/** Says in the twin which sequence is installed, where it does not say so yet. */
export async function acknowledge(twin: Twin, keeper: Keeper, timeoutMs: number, ended?: AbortSignal): Promise<void> {
  const trust = { ...keeper.acknowledgement, version: manifest.version };
  const reported = (twin.properties.reported as Properties)?.gatepost as Properties;
  const known = reported?.trust as Properties;
  if (known?.sequence === trust.sequence && known.version === trust.version && known.installedAt === trust.installedAt)
    return;
  const updated = new Promise<void>((resolve, reject) =>
    twin.properties.reported.update({ gatepost: { trust } }, (error: Error | undefined) =>
      error ? reject(error) : resolve(),
    ),
  );
  await withTimeout(updated, timeoutMs, 'reporting to the twin', ended);
}

function reread(client: Client | ModuleClient, timeoutMs: number, ended: AbortSignal): Promise<Twin> {
  return withTimeout(client.getTwin(), timeoutMs, 'reading the twin', ended);
}

function desiredTrust(properties: unknown): Properties {
  const { trust } = ((properties as Properties)?.gatepost ?? {}) as { trust?: unknown };
  return typeof trust === 'object' && trust !== null ? (trust as Properties) : undefined;
}
