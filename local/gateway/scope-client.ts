import { Agent, request } from 'node:https';
import { makeSasToken } from './sas-token.ts';

/** A device or module as the hub answers it to an edgeHub that asks who is in its scope. */
export interface ScopedIdentity {
  deviceId: string;
  moduleId?: string;
  generationId?: string;
  status?: 'enabled' | 'disabled';
  authentication?: {
    type?: 'sas' | 'selfSigned' | 'certificateAuthority' | 'none';
    symmetricKey?: { primaryKey?: string | null; secondaryKey?: string | null } | null;
    x509Thumbprint?: { primaryThumbprint?: string | null; secondaryThumbprint?: string | null } | null;
  };
}

interface ScopePage {
  devices?: ScopedIdentity[] | null;
  modules?: ScopedIdentity[] | null;
  continuationLink?: string | null;
}

export interface ScopeClientOptions {
  hub: { hostname: string; port: number; ca: string };
  edgeDeviceId: string;
  /** What signs the tokens of `$edgeHub`. */
  edgeKey: string;
  pageSize?: number;
}

const apiVersion = '2018-08-30-preview';
const timeoutMs = 30_000;

export class UpstreamError extends Error {}

/** edgeHub's questions to the hub about its scope (Azure/iotedge, DeviceScopeApiClient.cs and ServiceProxy.cs). */
export class ScopeClient {
  readonly #options: ScopeClientOptions;
  readonly #agent: Agent;
  readonly #base: string;

  constructor(options: ScopeClientOptions) {
    this.#options = options;
    this.#agent = new Agent({ keepAlive: true, ca: options.hub.ca, servername: options.hub.hostname });
    this.#base = `/devices/${encodeURIComponent(options.edgeDeviceId)}/modules/$edgeHub`;
  }

  /** Everybody in scope, page by page. Throws {@link UpstreamError}. */
  async everybody(): Promise<ScopedIdentity[]> {
    const found: ScopedIdentity[] = [];
    const query = `deviceCount=${this.#options.pageSize ?? 100}&continuationToken=&api-version=${apiVersion}`;
    let path: string | undefined = `${this.#base}/devicesAndModulesInDeviceScope?${query}`;
    while (path !== undefined) {
      const page: ScopePage | undefined = await this.#get(path);
      if (page === undefined) throw new UpstreamError('the hub refused the scope of this gateway');
      found.push(...[...(page.devices ?? []), ...(page.modules ?? [])].map(whatCounts));
      path = page.continuationLink ? pathOf(page.continuationLink) : undefined;
    }
    return found;
  }

  /** One identity; undefined where it is not in scope. Throws {@link UpstreamError} where the hub cannot say. */
  async one(deviceId: string, moduleId: string | null): Promise<ScopedIdentity | undefined> {
    const target = new URLSearchParams({ targetDeviceId: deviceId, targetModuleId: moduleId ?? '' });
    const path = `${this.#base}/deviceAndModuleInDeviceScope?${target}&api-version=${apiVersion}`;
    const page = await this.#get(path);
    const found = moduleId === null ? page?.devices : page?.modules;
    return found?.[0] !== undefined && found.length === 1 ? whatCounts(found[0]) : undefined;
  }

  close(): void {
    this.#agent.destroy();
  }

  #get(path: string): Promise<ScopePage | undefined> {
    const { hub, edgeDeviceId, edgeKey } = this.#options;
    const audience = `${hub.hostname}/devices/${edgeDeviceId}/modules/$edgeHub`;
    const headers = {
      host: hub.hostname,
      accept: 'application/json',
      authorization: makeSasToken(audience, edgeKey, Math.floor(Date.now() / 1000) + 3600),
    };
    return new Promise((resolve, reject) => {
      const fail = (why: string) => reject(new UpstreamError(`The hub did not answer ${path}: ${why}.`));
      const call = request({ host: '127.0.0.1', port: hub.port, path, headers, agent: this.#agent }, (answer) => {
        const chunks: Buffer[] = [];
        answer.on('data', (chunk: Buffer) => chunks.push(chunk));
        answer.on('error', (error) => fail(error.message));
        answer.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8');
          // 400 is how the hub says that an identity has left the scope (ServiceProxy.cs, BadRequestResult).
          if (answer.statusCode === 400 || answer.statusCode === 404) return resolve(undefined);
          if (answer.statusCode !== 200) return fail(`status ${answer.statusCode} ${text.slice(0, 200)}`);
          resolve(JSON.parse(text) as ScopePage);
        });
      });
      call.setTimeout(timeoutMs, () => call.destroy(new Error(`no answer in ${timeoutMs} ms`)));
      call.once('error', (error) => fail(error.message));
      call.end();
    });
  }
}

/** Only what makes an identity another one: times and connection states come and go (ServiceIdentity.cs, Equals). */
function whatCounts(answered: ScopedIdentity): ScopedIdentity {
  const { deviceId, moduleId, generationId, status, authentication } = answered;
  return {
    deviceId,
    ...(moduleId !== undefined && { moduleId }),
    ...(generationId !== undefined && { generationId }),
    ...(status !== undefined && { status }),
    ...(authentication !== undefined && { authentication }),
  };
}

/** A continuation link may be a path or a whole URL. */
function pathOf(link: string): string {
  const url = new URL(link, 'https://hub');
  return `${url.pathname}${url.search}`;
}
