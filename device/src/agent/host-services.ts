import { join } from 'node:path';
import { GatepostDeviceError } from '../errors.ts';
import { type HostIdentity, parseIdentity } from './identity.ts';
import { callSocket, type HostService, type SocketAnswer, type SocketRequest } from './socket-http.ts';

export interface HostServicesOptions {
  /** The folder of identityd.sock, keyd.sock and certd.sock. Default /run/aziot. */
  sockets?: string | undefined;
  /** Milliseconds that an identity may take. Default 300 000: identityd asks the cloud first, and waits up to 70 s twice. */
  identityTimeoutMs?: number | undefined;
  /** Milliseconds for a signature or a certificate. Default 30 000. */
  keyTimeoutMs?: number | undefined;
  signal?: AbortSignal | undefined;
}

export const defaultSockets = '/run/aziot';

/** 2020-09-01 is the version that every release of the three services accepts. */
const version = 'api-version=2020-09-01';

/** The Identity, Keys and Certificates services of this host, as far as an agent needs them. */
export class HostServices {
  readonly #identity: HostService;
  readonly #keys: HostService;
  readonly #certificates: HostService;
  readonly #options: HostServicesOptions;

  constructor(options: HostServicesOptions = {}) {
    const folder = options.sockets ?? defaultSockets;
    this.#identity = { name: 'Identity Service', socket: join(folder, 'identityd.sock') };
    this.#keys = { name: 'Keys Service', socket: join(folder, 'keyd.sock') };
    this.#certificates = { name: 'Certificates Service', socket: join(folder, 'certd.sock') };
    this.#options = options;
  }

  /** Who this process is. Can take minutes while the cloud is away. */
  async identity(): Promise<HostIdentity> {
    const request = { method: 'GET', path: `/identities/identity?${version}` } as const;
    const timeoutMs = this.#options.identityTimeoutMs ?? 300_000;
    return parseIdentity(json(this.#identity, await this.#call(this.#identity, { ...request, timeoutMs })));
  }

  /** HMAC-SHA256 of `message` with the key of the handle; base64. Throws `signing_refused` where the handle is not taken. */
  async sign(keyHandle: string, message: string): Promise<string> {
    const parameters = { message: Buffer.from(message).toString('base64') };
    const answer = await this.#call(this.#keys, {
      method: 'POST',
      path: `/sign?${version}`,
      json: { keyHandle, algorithm: 'HMAC-SHA256', parameters },
      timeoutMs: this.#options.keyTimeoutMs ?? 30_000,
    });
    const { signature } = json(this.#keys, answer) as { signature?: unknown };
    if (typeof signature === 'string' && /^[A-Za-z0-9+/]{43}=$/.test(signature)) return signature;
    throw invalid(this.#keys, 'has no HMAC-SHA256 signature');
  }

  /** The certificate with its chain, PEM. */
  async certificate(id: string): Promise<string> {
    const request = { method: 'GET', path: `/certificates/${encodeURIComponent(id)}?${version}` } as const;
    const timeoutMs = this.#options.keyTimeoutMs ?? 30_000;
    const answer = await this.#call(this.#certificates, { ...request, timeoutMs });
    const { pem } = json(this.#certificates, answer) as { pem?: unknown };
    if (typeof pem === 'string' && pem.includes('-----BEGIN CERTIFICATE-----')) return pem;
    throw invalid(this.#certificates, 'has no PEM certificate');
  }

  /** Has the device provisioned anew. Only root and the daemon of IoT Edge may ask for it. */
  async reprovision(): Promise<void> {
    await this.#call(
      this.#identity,
      {
        method: 'POST',
        path: `/identities/device/reprovision?${version}`,
        json: { type: 'aziot' },
        timeoutMs: this.#options.identityTimeoutMs ?? 300_000,
      },
      false,
    );
  }

  async #call(service: HostService, request: SocketRequest, isRepeatable = true): Promise<SocketAnswer> {
    const answer = await callSocket(service, { ...request, signal: this.#options.signal }, { isRepeatable });
    if (answer.status >= 200 && answer.status < 300) return answer;
    throw this.#refusal(service, answer);
  }

  /**
   * The statuses are no common ones: what the cloud refused is a 404, a method that is not known a 400
   * (Azure/iot-identity-service, identity/aziot-identityd/src/http/mod.rs, to_http_error).
   */
  #refusal(service: HostService, answer: SocketAnswer): GatepostDeviceError {
    const message = messageOf(answer);
    const said = `(${answer.status}: ${message})`;
    const user = process.getuid?.() ?? '?';
    if (service === this.#keys && (answer.status === 400 || answer.status === 401)) {
      return new GatepostDeviceError(
        'signing_refused',
        `The Keys Service does not take the key handle ${said}: its keys were reset, or the identity has changed.`,
      );
    }
    if (answer.status === 401) {
      return new GatepostDeviceError(
        'identity_refused',
        `The ${service.name} does not allow this to user ${user} ${said}. gatepost-device agent install makes a user a principal; the service reads that within 10 s. Reprovisioning is for root.`,
      );
    }
    if (answer.status === 404 && /client error|nested mode/.test(message)) {
      return new GatepostDeviceError(
        'identity_cloud_failed',
        `The ${service.name} could not get this from the cloud ${said}: the way to the IoT Hub or the parent gateway, or the device's own credential. Look at: aziotctl check.`,
      );
    }
    if (answer.status === 400 && /not found/.test(message)) {
      return new GatepostDeviceError(
        'identity_not_found',
        `The ${service.name} has no such thing ${said}. A device must be provisioned first: aziotctl config mp, aziotctl config apply.`,
      );
    }
    return new GatepostDeviceError(
      'identity_service_failed',
      `The ${service.name} failed ${said}. Its log says more: aziotctl system logs.`,
    );
  }
}

/** The text of an error body on one line, causes after one another. */
function messageOf({ text, contentType }: SocketAnswer): string {
  if (isJson(contentType)) {
    try {
      const { message } = JSON.parse(text) as { message?: unknown };
      if (typeof message === 'string') return message.replace(/\s*\n\s*/g, '; ').slice(0, 500);
    } catch {
      // It is told as what it is, below.
    }
  }
  return 'no error message';
}

function json(service: HostService, { text, contentType }: SocketAnswer): unknown {
  if (!isJson(contentType)) throw invalid(service, `is ${contentType || 'nothing'}, not application/json`);
  try {
    return JSON.parse(text);
  } catch {
    throw invalid(service, 'is not JSON');
  }
}

function isJson(contentType: string): boolean {
  return contentType.split(';')[0]?.trim().toLowerCase() === 'application/json';
}

function invalid(service: HostService, what: string): GatepostDeviceError {
  return new GatepostDeviceError('identity_invalid', `The answer of the ${service.name} ${what}.`);
}
