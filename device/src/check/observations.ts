import { X509Certificate } from 'node:crypto';
import { parseTrustBundle } from '../document.ts';
import { reasonOf } from '../errors.ts';
import { askApi } from './observe/ask-api.ts';
import { type ClockOptions, type ClockReading, isWrong, readClock } from './observe/clock.ts';
import { establishedPeers } from './observe/connections.ts';
import { type HandshakeResult, shakeHands } from './observe/handshake.ts';
import { type Dialled, dial, type Lookup, type Resolved, resolve } from './observe/network.ts';
import { followPath, type Path } from './observe/path.ts';

export interface ObservationOptions {
  host: string;
  port: number;
  roots: string;
  trusted: X509Certificate[];
  api: URL | undefined;
  /** Makes the token by which the API knows this device; undefined where it has none to show. */
  token(now: Date): string | undefined;
  deviceId: string | undefined;
  passed: ClockOptions['passed'];
  timeoutMs: number;
  now: () => Date;
  lookup: Lookup;
}

/** What the API says to the device about itself. */
export type Onboarding =
  | { document: Record<string, unknown> }
  | { problem: string; detail: string; status: number }
  | { unknown: string };

/** A hint, and no reason to trust: it is fetched without a pin. */
export interface NewestBundle {
  sequence: number;
  roots: X509Certificate[];
}

/** What can be seen from here. Each thing is looked at once, when the first check asks for it. */
export class Observations {
  readonly #options: ObservationOptions;
  readonly #seen = new Map<string, Promise<unknown>>();

  constructor(options: ObservationOptions) {
    this.#options = options;
  }

  clock(): Promise<ClockReading> {
    const { api, timeoutMs, now, passed } = this.#options;
    const chain = async () => {
      const { certificates, anchor } = await this.path();
      return anchor === undefined ? undefined : certificates;
    };
    return this.#once('clock', () => readClock({ api, timeoutMs, now, passed, chain }));
  }

  /** The time by this device's clock, or by the API's where that one is wrong; undefined where both cannot be gone by. */
  async time(): Promise<Date | undefined> {
    const reading = await this.clock();
    if ('impossible' in reading) return undefined;
    const now = this.#options.now();
    return 'offsetMs' in reading && isWrong(reading) ? new Date(now.getTime() + reading.offsetMs) : now;
  }

  /** This device's clock. */
  localTime(): Date {
    return this.#options.now();
  }

  addresses(): Promise<Resolved> {
    const { host, lookup } = this.#options;
    return this.#once('addresses', () => resolve(host, lookup));
  }

  async dial(port: number): Promise<Dialled> {
    const resolved = await this.addresses();
    if ('failed' in resolved) return { failed: 'unreachable', reason: resolved.failed };
    return this.#once(`dial ${port}`, () => dial(resolved.addresses, port, this.#options.timeoutMs));
  }

  async handshake(): Promise<HandshakeResult> {
    const { host, port, roots, timeoutMs } = this.#options;
    const dialled = await this.dial(port);
    if ('failed' in dialled) return { failed: 'unreachable', reason: dialled.reason };
    return this.#once('handshake', () => shakeHands({ address: dialled.open, host, port, roots, timeoutMs }));
  }

  /** The certificates that the gateway sent; empty where there was no handshake. */
  async sent(): Promise<X509Certificate[]> {
    const result = await this.handshake();
    return 'ok' in result ? result.ok.sent : [];
  }

  async path(): Promise<Path> {
    return followPath(await this.sent(), this.#options.trusted);
  }

  /** The peers of this machine's connections, as they were when this was first called. */
  peers(): Promise<Set<string> | undefined> {
    return this.#once('peers', () => establishedPeers());
  }

  onboarding(): Promise<Onboarding> {
    return this.#once('onboarding', () => this.#askOnboarding());
  }

  /** What the API tells everybody to trust now; undefined where it cannot be asked. */
  bundle(): Promise<NewestBundle | undefined> {
    return this.#once('bundle', () => this.#askBundle());
  }

  async #askOnboarding(): Promise<Onboarding> {
    const { api, deviceId, token, timeoutMs } = this.#options;
    const [reading, now] = await Promise.all([this.clock(), this.time()]);
    if (api === undefined || deviceId === undefined) return { unknown: 'no Gatepost API is known here' };
    // It was asked for the time, and one wait for what does not answer is enough.
    if ('isAway' in reading && reading.isAway) return { unknown: 'why' in reading ? reading.why : reading.unproven };
    if (now === undefined) return { unknown: 'this clock is wrong' };
    const sas = token(now);
    if (sas === undefined)
      return { unknown: 'the API knows devices by their SAS token, and this one has a certificate' };
    const path = `/api/v1/devices/${encodeURIComponent(deviceId)}/onboarding`;
    const asked = await askApi({ api, path, authorization: sas, timeoutMs });
    if ('failed' in asked) return { unknown: `${api.origin} cannot be asked: ${asked.failed}` };
    const { status, body } = asked.answer;
    const json = parse(body);
    if (status === 200 && json !== undefined) return { document: json };
    if (typeof json?.code !== 'string') return { unknown: `${api.origin} answers ${status}` };
    return { problem: json.code, detail: reasonOf(json.detail ?? json.title ?? ''), status };
  }

  async #askBundle(): Promise<NewestBundle | undefined> {
    const { api, timeoutMs } = this.#options;
    const reading = await this.clock();
    if (api === undefined || ('isAway' in reading && reading.isAway)) return undefined;
    const asked = await askApi({ api, path: '/api/v1/trust-bundle?format=json', timeoutMs });
    if ('failed' in asked || asked.answer.status !== 200) return undefined;
    try {
      const { sequence, roots } = parseTrustBundle(parse(asked.answer.body));
      return { sequence, roots: roots.map(({ pem }) => new X509Certificate(pem)) };
    } catch {
      return undefined;
    }
  }

  #once<T>(name: string, look: () => Promise<T>): Promise<T> {
    const seen = (this.#seen.get(name) as Promise<T> | undefined) ?? look();
    this.#seen.set(name, seen);
    return seen;
  }
}

function parse(body: Buffer): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(body.toString('utf8'));
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
