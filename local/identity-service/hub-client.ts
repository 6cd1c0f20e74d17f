import { Agent, request } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';

/** A module as identityd knows it. */
export interface HubModule {
  moduleId: string;
  deviceId: string;
  generationId?: string;
  managedBy?: string | null;
}

/** How the device proves itself to the cloud. */
export type DeviceProof =
  | { kind: 'sas'; sign(text: string): string }
  | { kind: 'x509'; certificate: string; privateKey: string };

export interface HubClientOptions {
  hub: string;
  deviceId: string;
  /** The host that is asked: the parent gateway, or the hub itself. */
  gatewayHost: string;
  proof(): DeviceProof;
  /** PEM: what the machine's own store trusts. */
  ca: string;
  /** Where port 443 of a host is on this machine. */
  locate(host: string): { address: string; port: number };
  timeoutMs: number;
  retries: number;
  retryDelayMs: number;
}

/** An error of the cloud; `isNetwork` where there was no way to it. */
export class CloudError extends Error {
  readonly isNetwork: boolean;
  readonly isMissing: boolean;

  constructor(message: string, options: { isNetwork?: boolean; isMissing?: boolean } = {}) {
    super(message);
    this.isNetwork = options.isNetwork ?? false;
    this.isMissing = options.isMissing ?? false;
  }
}

const apiVersion = '2017-11-08-preview';
/** Seconds that a token for one call lives. */
const tokenSeconds = 30;

interface HubAnswer {
  status: number;
  body: unknown;
}

/**
 * identityd's calls to the hub, sent to the parent gateway where there is one
 * (identity/aziot-cloud-client-async/src/hub/mod.rs, connector.rs).
 */
export class HubClient {
  readonly #options: HubClientOptions;

  constructor(options: HubClientOptions) {
    this.#options = options;
  }

  async list(): Promise<HubModule[]> {
    return (await this.#expectOk('GET')) as HubModule[];
  }

  async get(moduleId: string): Promise<HubModule> {
    return (await this.#expectOk('GET', moduleId)) as HubModule;
  }

  async create(moduleId: string): Promise<HubModule> {
    const body = { moduleId, deviceId: this.#options.deviceId };
    return (await this.#expectOk('PUT', moduleId, body)) as HubModule;
  }

  async update(moduleId: string, keys: { primaryKey: string; secondaryKey: string }): Promise<HubModule> {
    const authentication = { symmetricKey: keys, type: 'sas' };
    const body = { moduleId, deviceId: this.#options.deviceId, authentication };
    return (await this.#expectOk('PUT', moduleId, body, '*')) as HubModule;
  }

  async delete(moduleId: string): Promise<void> {
    const answer = await this.#send('DELETE', moduleId, undefined, '*');
    if (answer.status !== 204) throw fault(answer);
  }

  async #expectOk(method: string, moduleId?: string, body?: object, condition?: string): Promise<unknown> {
    const answer = await this.#send(method, moduleId, body, condition);
    // 201 would be a failure as well.
    if (answer.status === 200) return answer.body;
    throw fault(answer);
  }

  async #send(method: string, moduleId?: string, body?: object, condition?: string): Promise<HubAnswer> {
    const { retries, retryDelayMs } = this.#options;
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.#once(method, moduleId, body, condition);
      } catch (error) {
        if (attempt >= retries) throw error;
        await sleep(retryDelayMs);
      }
    }
  }

  #once(method: string, moduleId: string | undefined, body: object | undefined, condition: string | undefined) {
    const { deviceId, gatewayHost, ca, locate, timeoutMs } = this.#options;
    const segments = ['devices', deviceId, 'modules', ...(moduleId === undefined ? [] : [moduleId])];
    const path = `/${segments.map(encodeSegment).join('/')}?api-version=${apiVersion}`;
    const text = body === undefined ? '' : JSON.stringify(body);
    const proof = this.#options.proof();
    const host = gatewayHost.replace(/:\d+$/, '');
    const { address, port } = locate(gatewayHost);
    const tls = proof.kind === 'x509' ? { cert: proof.certificate, key: proof.privateKey } : {};
    const headers = {
      host: gatewayHost,
      ...(proof.kind === 'sas' && { authorization: this.#token(proof.sign) }),
      ...(body === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
      ...(condition === undefined ? {} : { 'if-match': condition }),
    };
    const agent = new Agent({ keepAlive: false });
    const options = { host: address, port, servername: host, ca, method, path, headers, agent, ...tls };
    return new Promise<HubAnswer>((resolve, reject) => {
      const fail = (error: Error) => reject(new CloudError(error.message, { isNetwork: true }));
      const sent = request(options, (answer) => {
        const chunks: Buffer[] = [];
        answer.on('data', (chunk: Buffer) => chunks.push(chunk));
        answer.on('error', fail);
        answer.on('end', () => {
          const received = Buffer.concat(chunks).toString('utf8');
          resolve({ status: answer.statusCode ?? 0, body: parse(received) });
        });
      });
      sent.setTimeout(timeoutMs, () => sent.destroy(new Error('operation timed out')));
      sent.once('error', fail);
      sent.end(text);
    });
  }

  /** The audience is written in lower case, its slashes bare; the signature is over what is sent. */
  #token(sign: (text: string) => string): string {
    const { hub, deviceId } = this.#options;
    const audience = encodeSegment(`${hub}/devices/${deviceId}`.toLowerCase());
    const expiry = Math.floor(Date.now() / 1000) + tokenSeconds;
    const signature = encodeURIComponent(sign(`${audience}\n${expiry}`));
    return `SharedAccessSignature sr=${audience}&sig=${signature}&se=${expiry}`;
  }
}

/** ENCODE_SET: controls, space and `" < > \` # ? { } =`. */
function encodeSegment(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is escaped
  return text.replace(/[\u0000-\u001f\u007f "<>`#?{}=]|[^\u0000-\u007f]/gu, (character) =>
    [...Buffer.from(character)].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`).join(''),
  );
}

/** 500 is how a parent gateway says that it has no way to the hub. */
function fault({ status, body }: HubAnswer): CloudError {
  const given = body as { Message?: unknown; errorMessage?: unknown; networkError?: unknown } | undefined;
  const message = given?.Message ?? given?.errorMessage;
  const isNetwork = status === 500 || given?.networkError === true;
  const text = typeof message === 'string' ? message : `hub returned status ${status}`;
  return new CloudError(text, { isNetwork, isMissing: status === 404 });
}

function parse(text: string): unknown {
  try {
    return text === '' ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}
