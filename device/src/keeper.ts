import { type ApiOptions, parseApiUrl } from './api.ts';
import { Backoff } from './backoff.ts';
import { ClockWatch } from './clock-watch.ts';
import { parseConnectionString } from './connection-string.ts';
import { fetchBundle, fetchDocument, fetchToken, withOwnCredential } from './device-plane.ts';
import { type OnboardingDocument, parseTrustBundle, type TrustBundle } from './document.ts';
import { GatepostDeviceError, reasonOf } from './errors.ts';
import { type Origin, readDocument, readOrigin, updateDocument } from './state.ts';
import { jittered, Timetable } from './timetable.ts';
import { count } from './words.ts';

export interface KeeperOptions {
  document: OnboardingDocument;
  /** The folder that the document came from, and where a newer one is stored. */
  state: string;
  log(line: string): void;
  now?: (() => Date) | undefined;
  random?: (() => number) | undefined;
  /** No call of the API is repeated sooner. Default 30 000. */
  shortestMs?: number | undefined;
  /** How often the API is asked for the gateway where nothing is wrong. Default a day. */
  documentMs?: number | undefined;
  /** How often the clock is looked at. Default 15 000. */
  clockMs?: number | undefined;
  apiOptions?: ApiOptions | undefined;
}

/** What became another. */
export interface Change {
  what: 'trust' | 'token' | 'gateway' | 'clock';
  document: OnboardingDocument;
}

/** What the twin's reported property `gatepost.trust` says, but for the version. */
export interface Acknowledgement {
  sequence: number;
  installedAt: string;
}

const dayMs = 86_400_000;

/**
 * Keeps what `join` stored as it should be: fetches a fresh SAS token long before the old one ends, newer trust bundles,
 * and the gateway where it was replaced. Whatever fails, the last good document stays and is tried with.
 */
export class Keeper {
  readonly #options: KeeperOptions;
  readonly #stopping = new AbortController();
  readonly #listeners = new Set<(change: Change) => void>();
  readonly #backoffs = new Map<string, Backoff>();
  /** Which job failed last, so that each trouble is one line and its end another. */
  readonly #troubles = new Set<string>();
  readonly #token: Timetable;
  readonly #trust: Timetable;
  readonly #gateway: Timetable;
  #api: URL | undefined;
  #origin: Origin | undefined;
  #document: OnboardingDocument;
  #etag: string | undefined;
  /** The last line about a refused bundle. */
  #refused = '';
  #storing: Promise<unknown> = Promise.resolve();

  private constructor(options: KeeperOptions) {
    this.#options = options;
    this.#document = options.document;
    const shortestMs = options.shortestMs ?? 30_000;
    const table = (job: () => Promise<number | undefined>) =>
      new Timetable({ job, shortestMs, signal: this.#stopping.signal });
    this.#token = table(() => this.#renewToken());
    this.#trust = table(() => this.#pollTrust());
    this.#gateway = table(() => this.#askForGateway());
  }

  /** Begins to keep the document of a state folder. */
  static async start(options: KeeperOptions): Promise<Keeper> {
    const keeper = new Keeper(options);
    keeper.#origin = await readOrigin(options.state);
    const api = keeper.#origin?.api;
    if (api !== undefined && api !== null) keeper.#api = parseApiUrl(api);
    keeper.#begin();
    return keeper;
  }

  get document(): OnboardingDocument {
    return this.#document;
  }

  get acknowledgement(): Acknowledgement {
    const { sequence } = this.#document.trust;
    const stored = this.#origin?.trust;
    const installedAt = stored?.sequence === sequence ? stored.installedAt : this.#origin?.joinedAt;
    return { sequence, installedAt: installedAt ?? this.#now().toISOString() };
  }

  /** Calls back after each change. Answers how to stop that. */
  onChange(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  stop(): void {
    this.#stopping.abort();
    this.#listeners.clear();
  }

  /**
   * The gateway cannot be reached, or does not take the credential: looks whether another process has stored something
   * newer, and has the API asked soon.
   */
  async inDoubt(): Promise<void> {
    await this.#reread();
    if (this.#isTokenOver()) this.#token.soon();
    else if (this.#troubles.size === 0) this.#gateway.soon();
  }

  /** Tries for a fresh token now, where the one in the document has ended. */
  async renewExpired(): Promise<void> {
    await this.#reread();
    if (this.#isTokenOver()) await this.#renewToken();
  }

  /**
   * Installs a trust bundle that came from the API or through the twin, if it reads, is newer, and holds what it says.
   * Answers what became of it; never throws.
   */
  async offerTrust(offered: unknown, from: string): Promise<'installed' | 'same' | 'refused'> {
    try {
      const bundle = parseTrustBundle(offered);
      const current = this.#document.trust;
      if (bundle.sequence === current.sequence && sameRoots(bundle, current)) return this.#same(bundle);
      if (bundle.sequence <= current.sequence) throw notNewer(bundle.sequence, current.sequence);
      const refreshHintSeconds = bundle.refreshHintSeconds ?? current.refreshHintSeconds;
      const trust = { ...bundle, refreshHintSeconds };
      await this.#adopt('trust', { ...this.#document, trust });
      this.#options.log(
        `trust: sequence ${bundle.sequence} installed, ${count(bundle.roots.length, 'root')}, from ${from}`,
      );
      return 'installed';
    } catch (error) {
      const line = `trust: what came from ${from} was refused, sequence ${this.#document.trust.sequence} stays. ${reasonOf(error)}`;
      // A twin says the same at each connection: one line is enough.
      if (line !== this.#refused) this.#options.log(line);
      this.#refused = line;
      return 'refused';
    }
  }

  #begin(): void {
    const random = this.#random();
    const watch = new ClockWatch(this.#options.now);
    const clock = setInterval(() => {
      const jumpMs = watch.jumpMs();
      if (jumpMs !== 0) this.#clockJumped(jumpMs);
    }, this.#options.clockMs ?? 15_000);
    clock.unref();
    this.#stopping.signal.addEventListener('abort', () => clearInterval(clock), { once: true });
    if (this.#api === undefined) return;
    this.#token.start(this.#untilRenewal());
    this.#trust.start(jittered(this.#hintMs(), random, 0, 1));
    this.#gateway.start(jittered(this.#options.documentMs ?? dayMs, random, 0.5, 1));
  }

  #clockJumped(jumpMs: number): void {
    const seconds = Math.round(jumpMs / 1000);
    const how = seconds > 0 ? `${seconds} s forward` : `${-seconds} s back`;
    this.#options.log(`the clock of this device was set ${how}: connecting again, since tokens are dated by it`);
    if (this.#api !== undefined && this.#isSas()) this.#token.soon();
    this.#emit('clock');
  }

  /** Half to three quarters of the token's remaining time from now. */
  #untilRenewal(): number | undefined {
    if (!this.#isSas()) return undefined;
    return jittered(Math.max(this.#endsAt() - this.#now().getTime(), 0), this.#random(), 0.5, 0.75);
  }

  async #renewToken(): Promise<number | undefined> {
    const api = this.#api;
    if (api === undefined || !this.#isSas()) return undefined;
    try {
      const fresh = await fetchToken(api, this.#document, this.#options.apiOptions ?? {});
      this.#over('token', 'the Gatepost API gives tokens again');
      await this.#adopt('token', { ...fresh, trust: this.#document.trust });
      return this.#untilRenewal();
    } catch (error) {
      const ends = new Date(this.#endsAt()).toISOString();
      const state = this.#isTokenOver()
        ? `the SAS token ended at ${ends} and the Gatepost API gives no new one: nothing can be sent until it does. Trying on; if this lasts, join again.`
        : `no fresh SAS token yet, the one from before is good until ${ends}.`;
      this.#trouble(this.#isTokenOver() ? 'token-over' : 'token', `${state} ${reasonOf(error)}`);
      return this.#next('token', 900_000);
    }
  }

  async #pollTrust(): Promise<number | undefined> {
    const api = this.#api;
    if (api === undefined) return undefined;
    try {
      const fetched = await fetchBundle(api, this.#etag, this.#options.apiOptions ?? {});
      this.#over('trust', 'the Gatepost API serves the trust bundle again');
      if (fetched !== undefined) {
        const outcome = await this.offerTrust(fetched.bundle, api.origin);
        // One that was refused is looked at again, and not taken for known.
        this.#etag = outcome === 'refused' ? undefined : fetched.etag;
      }
      return jittered(this.#hintMs(), this.#random());
    } catch (error) {
      this.#trouble('trust', `trust: sequence ${this.#document.trust.sequence} stays. ${reasonOf(error)}`);
      return this.#next('trust', this.#hintMs());
    }
  }

  async #askForGateway(): Promise<number | undefined> {
    const api = this.#api;
    const usualMs = jittered(this.#options.documentMs ?? dayMs, this.#random());
    if (api === undefined) return undefined;
    try {
      const fresh = await fetchDocument(api, this.#document, this.#options.apiOptions ?? {});
      if (fresh === undefined) return undefined;
      this.#over('gateway', 'the Gatepost API answers again');
      if (fresh.trust.sequence > this.#document.trust.sequence) await this.offerTrust(fresh.trust, api.origin);
      await this.#adopt('gateway', { ...withOwnCredential(fresh, this.#document), trust: this.#document.trust });
      return usualMs;
    } catch (error) {
      this.#trouble('gateway', `the gateway stays ${this.#document.gateway.hostname}. ${reasonOf(error)}`);
      return this.#next('gateway', usualMs);
    }
  }

  /** What another process stored: a person who joined again while this one runs. */
  async #reread(): Promise<void> {
    const stored = await readDocument(this.#options.state).catch(() => undefined);
    if (stored === undefined || stored.trust.sequence < this.#document.trust.sequence) return;
    if (stored.connectionString === this.#document.connectionString) return;
    this.#origin = (await readOrigin(this.#options.state)) ?? this.#origin;
    this.#document = stored;
    this.#options.log('the state folder holds a newer document: using it');
    this.#emit('gateway');
  }

  /** Stores a checked document and makes it the current one. Where it cannot be stored it counts until the end of the process. */
  #adopt(what: Change['what'], document: OnboardingDocument): Promise<void> {
    const adopted = this.#storing.then(async () => {
      const before = this.#document;
      // Two changes may overlap: each brings its own part, over whatever the other brought.
      const next = what === 'trust' ? { ...before, trust: document.trust } : { ...document, trust: before.trust };
      const isMoved = !sameGateway(before, next);
      if (what === 'gateway' && !isMoved) return;
      const installedAt = what === 'trust' ? this.#now().toISOString() : undefined;
      this.#document = next;
      if (installedAt !== undefined && this.#origin !== undefined) {
        this.#origin = { ...this.#origin, trust: { sequence: next.trust.sequence, installedAt } };
      }
      await updateDocument(this.#options.state, next, installedAt).catch((error: unknown) =>
        this.#options.log(`what is new cannot be stored, and counts until this process ends. ${reasonOf(error)}`),
      );
      if (isMoved)
        this.#options.log(`the gateway is now ${next.gateway.id} at ${next.gateway.hostname}: connecting there`);
      this.#emit(isMoved ? 'gateway' : what);
    });
    this.#storing = adopted.catch(() => {});
    return adopted;
  }

  #same(bundle: TrustBundle): 'same' {
    const { trust } = this.#document;
    this.#document = {
      ...this.#document,
      trust: { ...trust, refreshHintSeconds: bundle.refreshHintSeconds ?? trust.refreshHintSeconds },
    };
    return 'same';
  }

  #emit(what: Change['what']): void {
    for (const listener of [...this.#listeners]) listener({ what, document: this.#document });
  }

  #trouble(name: string, line: string): void {
    if (this.#troubles.has(name)) return;
    this.#troubles.add(name);
    this.#options.log(line);
  }

  #over(name: string, line: string): void {
    this.#backoffs.delete(name);
    const had = [name, `${name}-over`].map((each) => this.#troubles.delete(each));
    if (had.includes(true)) this.#options.log(line);
  }

  #next(name: string, ceilingMs: number): number {
    const firstMs = this.#options.shortestMs ?? 30_000;
    const random = this.#random();
    const backoff =
      this.#backoffs.get(name) ?? new Backoff({ firstMs, ceilingMs: Math.max(ceilingMs, firstMs), random });
    this.#backoffs.set(name, backoff);
    return backoff.next();
  }

  #isSas(): boolean {
    return parseConnectionString(this.#document.connectionString).credential.kind === 'sas';
  }

  #endsAt(): number {
    const { credential } = parseConnectionString(this.#document.connectionString);
    return credential.kind === 'sas' ? credential.expiresAt.getTime() : Number.POSITIVE_INFINITY;
  }

  #isTokenOver(): boolean {
    return this.#endsAt() <= this.#now().getTime();
  }

  #hintMs(): number {
    return (this.#document.trust.refreshHintSeconds ?? 3600) * 1000;
  }

  #now(): Date {
    return this.#options.now?.() ?? new Date();
  }

  #random(): () => number {
    return this.#options.random ?? Math.random;
  }
}

function sameRoots(one: TrustBundle, other: TrustBundle): boolean {
  const known = ({ roots }: TrustBundle) => roots.map(({ sha256 }) => sha256.toLowerCase()).sort();
  return known(one).join() === known(other).join();
}

function sameGateway(one: OnboardingDocument, other: OnboardingDocument): boolean {
  const place = ({ hub, gateway, connectionString }: OnboardingDocument) => {
    const { mqtt, amqp, websocket } = gateway.ports ?? {};
    const { host, port } = parseConnectionString(connectionString).gateway;
    const usual = { mqtt: port ?? mqtt ?? 8883, amqp: amqp === undefined ? 5671 : amqp };
    const webSocket = websocket === undefined ? 443 : websocket;
    return JSON.stringify([hub.hostname.toLowerCase(), gateway.id, host, usual, webSocket]);
  };
  return place(one) === place(other);
}

function notNewer(sequence: number, current: number): GatepostDeviceError {
  const why =
    sequence === current
      ? `It has the sequence ${sequence} of what is installed, and other roots.`
      : `It has sequence ${sequence}, which is below ${current}: an older bundle is not installed.`;
  return new GatepostDeviceError('sequence_lower', why);
}
