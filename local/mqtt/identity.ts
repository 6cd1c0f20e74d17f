import type { X509Certificate } from 'node:crypto';

/** Who is connected: a device, or one of its modules. */
export interface Identity {
  deviceId: string;
  moduleId: string | null;
}

/** The MQTT client id that an identity must use: `{deviceId}` or `{deviceId}/{moduleId}`. */
export function clientIdOf(identity: Identity): string {
  return identity.moduleId === null ? identity.deviceId : `${identity.deviceId}/${identity.moduleId}`;
}

/** What a client shows to be let in as `identity`, over whichever protocol. */
export interface Credentials {
  identity: Identity;
  /** A SAS token. Where there is one, a certificate does not count. */
  token: string | undefined;
  /** The client's certificate and the issuers it sent with it, the client's own first. Empty without one. */
  certificates: X509Certificate[];
  /** True where a client that is connected already is looked at again. */
  again: boolean;
}

/** What a CONNECT packet and the TLS session under it say. */
export interface ConnectRequest {
  clientId: string;
  userName: string | undefined;
  password: string | undefined;
  clean: boolean;
  /** The client's certificate and the issuers it sent with it, the client's own first. Empty without one. */
  certificates: X509Certificate[];
  /** True where a client that is connected already is looked at again, see `reauthenticateMs`. */
  again: boolean;
}

/**
 * Whether a client may connect. `refused` is the CONNACK return code of MQTT 3.1.1, section 3.2.2.3: 2 client id
 * rejected, 3 server unavailable, 4 bad user name or password, 5 not authorized.
 */
export type ConnectDecision = { ok: Identity } | { refused: 2 | 3 | 4 | 5; reason: string };

/** What the protocol head does with a connected device; the hub implements it, a gateway forwards to it. */
export interface DeviceBackend {
  /** Resolves once the message is safe; the device gets its PUBACK then. A rejection drops the connection. */
  telemetry(from: Identity, properties: Record<string, string>, body: Buffer): Promise<void>;
  /** Both with `$version` inside. */
  twin(of: Identity): Promise<{ desired: object; reported: object }>;
  /** Answers the new `$version` of the reported properties. */
  patchReported(of: Identity, patch: object): Promise<number>;
  /** The device is connected. Answers what to call when it is gone. */
  attach(of: Identity, sink: DeviceSink): () => void;
}

/** The way back to a connected device. */
export interface DeviceSink {
  /** A desired-properties patch with `$version` inside; dropped where the device has not asked for patches. */
  desired(patch: object): void;
  /** Rejects with a {@link DeviceError}: 404 where the device does not listen for methods, 504 after `timeoutMs`. */
  method(name: string, payload: unknown, timeoutMs: number): Promise<{ status: number; payload: unknown }>;
  /** Waits for the subscription and the PUBACK; false where the device is gone before it acknowledged. */
  cloudToDevice(message: CloudToDeviceMessage): Promise<boolean>;
}

export interface CloudToDeviceMessage {
  id: string;
  properties: Record<string, string>;
  body: Buffer;
}

/** A refusal that a device can be told: `status` as in HTTP, `errorCode` as IoT Hub numbers them (status + 3 digits). */
export class DeviceError extends Error {
  readonly status: number;
  readonly errorCode: number;

  constructor(status: number, errorCode: number, message: string) {
    super(message);
    this.name = 'DeviceError';
    this.status = status;
    this.errorCode = errorCode;
  }
}
