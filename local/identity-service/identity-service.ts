import { type FSWatcher, watch } from 'node:fs';
import { join } from 'node:path';
import { certdRoutes, certdVersions, type LocalIssuer } from './certd.ts';
import { type CloudOptions, IdentityManager, type Provisioning } from './identity-manager.ts';
import { identitydRoutes, identitydVersions } from './identityd.ts';
import { KeyStore } from './key-store.ts';
import { keydRoutes, keydVersions } from './keyd.ts';
import {
  ConfigError,
  checkPrincipals,
  type Grant,
  type Principal,
  readGrants,
  readPrincipals,
  readTables,
} from './principals.ts';
import { type Caller, ServiceError, type ServiceName, type ServiceRoute } from './routing.ts';
import { type Mischief, UnixService } from './unix-http.ts';

export interface IdentityServiceOptions {
  /** Takes the sockets: one folder for each user in it. */
  directory: string;
  /** The users that call. Root is always one. */
  users?: number[];
  provisioning: Provisioning;
  /** Default: those of identityd.toml. Times are in milliseconds; `locate` answers where port 443 of a host is here. */
  cloud: Pick<CloudOptions, 'ca' | 'locate'> & Partial<CloudOptions>;
  /** Principals of identityd beside those of the `config.d` folders, which come after them. */
  principals?: Principal[];
  /** The `config.d` folders that are read, and watched. */
  config?: { identityd?: string; keyd?: string; certd?: string };
  /** Which ids of keyd and certd users may use. */
  grants?: Grant[];
  /** Certificates that certd has from the start, PEM by id. */
  certificates?: Record<string, string>;
  issuance?: Record<string, LocalIssuer>;
  /** Default 10. */
  maxConnections?: number;
  /** How long a change of the configuration rests before it is read. Default 10 s. */
  debounceMs?: number;
  now?(): Date;
}

export interface MischiefRule {
  service: ServiceName;
  /** A regular expression over `METHOD path`. Absent: every request. */
  match?: RegExp;
  fault: Mischief;
  /** Absent: until `behave`. */
  times?: number;
}

export interface ServedCall extends Caller {
  service: ServiceName;
  method: string;
  path: string;
}

export interface IdentityService {
  /** The folder with the sockets as this user sees them. */
  sockets(uid: number): string;
  /** Reads the configuration again now. Rejects where the daemon would keep the old one and log why. */
  reload(): Promise<void>;
  /** What the super config says from now on. It counts from the next provisioning. */
  setProvisioning(provisioning: Provisioning): void;
  /** Connections are refused from now on. */
  stop(service: ServiceName): Promise<void>;
  start(service: ServiceName): Promise<void>;
  /** Drops its connections. `forgetHandles`: what was handed out before is invalid. */
  restartKeyd(options?: { forgetHandles?: boolean }): void;
  misbehave(rule: MischiefRule): void;
  behave(): void;
  /** What was asked so far, the oldest first. */
  calls(): ServedCall[];
  connections(service: ServiceName): number;
  close(): Promise<void>;
}

const names: readonly ServiceName[] = ['identityd', 'keyd', 'certd'];

/**
 * Starts identityd, keyd and certd on Unix sockets, provisions the device and reconciles its modules with the hub.
 * Rejects where the real identityd would not start.
 */
export async function startIdentityService(options: IdentityServiceOptions): Promise<IdentityService> {
  const double = new Double(options);
  try {
    await double.begin();
  } catch (error) {
    await double.close();
    throw error;
  }
  return double;
}

class Double implements IdentityService {
  readonly #options: IdentityServiceOptions;
  readonly #uids: number[];
  readonly #keys = new KeyStore();
  readonly #manager: IdentityManager;
  readonly #services: Record<ServiceName, UnixService>;
  readonly #stopped = new Set<ServiceName>();
  readonly #rules: (MischiefRule & { struck: number })[] = [];
  readonly #calls: ServedCall[] = [];
  readonly #watchers: FSWatcher[] = [];
  #timer: NodeJS.Timeout | undefined;
  #provisioning: Provisioning;
  #principals: Principal[] = [];
  #keyGrants: Grant[] = [];
  #certGrants: Grant[] = [];

  constructor(options: IdentityServiceOptions) {
    this.#options = options;
    this.#provisioning = options.provisioning;
    this.#uids = [...new Set([0, ...(options.users ?? [])])];
    const certificates = new Map(Object.entries(options.certificates ?? {}));
    this.#manager = new IdentityManager({
      provisioning: () => this.#provisioning,
      keys: this.#keys,
      certificates,
      cloud: { timeoutMs: 70_000, retries: 1, retryDelayMs: 3_000, ...options.cloud },
      principals: () => this.#principals,
      requireKeyd: () => {
        if (!this.#stopped.has('keyd')) return;
        throw new ServiceError(404, 'Key client error', 'connection error', 'Connection refused (os error 111)');
      },
    });
    const keys = this.#keys;
    const now = options.now ?? (() => new Date());
    const issuance = options.issuance ?? {};
    const identityd = identitydRoutes({ manager: this.#manager, principals: () => this.#principals });
    const certd = certdRoutes({ keys, certificates, issuance, grants: () => this.#certGrants, now });
    this.#services = {
      identityd: this.#service('identityd', identityd, identitydVersions),
      keyd: this.#service('keyd', keydRoutes({ keys, grants: () => this.#keyGrants }), keydVersions),
      certd: this.#service('certd', certd, certdVersions),
    };
  }

  async begin(): Promise<void> {
    this.#readConfig();
    await this.#manager.start();
    for (const name of names) await this.#listen(name);
    for (const folder of Object.values(this.#options.config ?? {})) {
      this.#watchers.push(watch(folder, () => this.#reloadSoon()));
    }
  }

  sockets(uid: number): string {
    if (!this.#uids.includes(uid)) throw new Error(`This double has no sockets for user ${uid}.`);
    return join(this.#options.directory, String(uid));
  }

  async reload(): Promise<void> {
    this.#readConfig();
    await this.#manager.alone(() => this.#manager.reconfigured());
  }

  setProvisioning(provisioning: Provisioning): void {
    this.#provisioning = provisioning;
  }

  async stop(service: ServiceName): Promise<void> {
    this.#stopped.add(service);
    await this.#services[service].refuse();
  }

  async start(service: ServiceName): Promise<void> {
    await this.#listen(service);
    this.#stopped.delete(service);
  }

  restartKeyd({ forgetHandles = false } = {}): void {
    if (forgetHandles) this.#keys.forgetHandles();
    this.#services.keyd.hangUp();
  }

  misbehave(rule: MischiefRule): void {
    this.#rules.push({ ...rule, struck: 0 });
  }

  behave(): void {
    this.#rules.length = 0;
  }

  calls(): ServedCall[] {
    return [...this.#calls];
  }

  connections(service: ServiceName): number {
    return this.#services[service].connections;
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer);
    for (const watcher of this.#watchers) watcher.close();
    await Promise.all(names.map((name) => this.#services[name].close()));
  }

  async #listen(name: ServiceName): Promise<void> {
    for (const uid of this.#uids) await this.#services[name].listen(this.sockets(uid), uid);
  }

  #service(name: ServiceName, routes: ServiceRoute[], versions: readonly string[]): UnixService {
    return new UnixService({
      name,
      routes,
      versions,
      maxConnections: this.#options.maxConnections ?? 10,
      mischief: (caller, method, target) => {
        const path = target.split('?')[0] ?? '';
        this.#calls.push({ ...caller, service: name, method, path });
        return this.#strike(name, `${method} ${path}`);
      },
    });
  }

  #strike(service: ServiceName, request: string): Mischief | undefined {
    for (const rule of this.#rules) {
      if (rule.service !== service || (rule.times !== undefined && rule.struck >= rule.times)) continue;
      if (rule.match !== undefined && !rule.match.test(request)) continue;
      rule.struck += 1;
      return rule.fault;
    }
    return undefined;
  }

  #readConfig(): void {
    const { config = {}, principals = [], grants = [] } = this.#options;
    const tables = (folder: string | undefined) => (folder === undefined ? [] : readTables(folder));
    const found = checkPrincipals([...principals, ...readPrincipals(tables(config.identityd))]);
    const hubOnly = found.find(({ idtype }) => idtype?.some((type) => type !== 'local'));
    if (this.#provisioning.source === 'none' && hubOnly !== undefined) {
      throw new ConfigError(`${hubOnly.name}: idtype "module" and "device" need provisioning other than "none"`);
    }
    const keyGrants = [...grants, ...readGrants(tables(config.keyd))];
    this.#certGrants = [...grants, ...readGrants(tables(config.certd))];
    this.#keyGrants = keyGrants;
    this.#principals = found;
  }

  #reloadSoon(): void {
    clearTimeout(this.#timer);
    // A configuration that does not read is logged, and the old one stands.
    this.#timer = setTimeout(() => void this.reload().catch(() => {}), this.#options.debounceMs ?? 10_000);
  }
}
