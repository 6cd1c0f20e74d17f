import { EventEmitter } from 'node:events';
import type { AuthenticationProvider, AuthenticationType, TransportConfig, X509 } from 'azure-iot-common';
import type { Pace } from './pace.ts';

/*
 * Client.fromConnectionString builds its own provider and forgets GatewayHostName for SharedAccessSignature and x509
 * strings: the client then goes straight to the hub and says nothing (azure-iot-sdk-node, device/core/src/
 * device_client.ts, fromConnectionString; the same in sas_authentication_provider.ts, fromSharedAccessSignature).
 * These two keep it.
 */

/** Values of azure-iot-common's AuthenticationType, written out so that this file does not load the SDK. */
const x509Type: AuthenticationType.X509 = 0;
const tokenType: AuthenticationType.Token = 1;

type CredentialsCallback = (error: Error | null, credentials?: TransportConfig) => void;

/** Proves the device by a SAS token that was made elsewhere, through its gateway. */
export class GatewayTokenProvider extends EventEmitter implements AuthenticationProvider {
  readonly type = tokenType;
  readonly #credentials: TransportConfig;

  constructor(credentials: TransportConfig & { gatewayHostName: string; sharedAccessSignature: string }) {
    super();
    this.#credentials = { ...credentials };
  }

  getDeviceCredentials(callback: CredentialsCallback): void;
  getDeviceCredentials(): Promise<TransportConfig>;
  getDeviceCredentials(callback?: CredentialsCallback): Promise<TransportConfig> | undefined {
    return answer({ ...this.#credentials }, callback);
  }

  /** Called by the transport, which then reconnects by itself: an event here would make it reconnect twice. */
  updateSharedAccessSignature(sharedAccessSignature: string): void {
    this.#credentials.sharedAccessSignature = sharedAccessSignature;
  }

  /** Takes a fresh token; an open client reconnects with it. */
  renew(sharedAccessSignature: string): void {
    this.updateSharedAccessSignature(sharedAccessSignature);
    this.emit('newTokenAvailable', { ...this.#credentials });
  }

  stop(): void {}
}

/** Proves the device by a client certificate, through its gateway. */
export class GatewayCertificateProvider implements AuthenticationProvider {
  readonly type = x509Type;
  readonly #credentials: TransportConfig;

  constructor(credentials: TransportConfig & { gatewayHostName: string; x509: X509 }) {
    this.#credentials = { ...credentials };
  }

  getDeviceCredentials(callback: CredentialsCallback): void;
  getDeviceCredentials(): Promise<TransportConfig>;
  getDeviceCredentials(callback?: CredentialsCallback): Promise<TransportConfig> | undefined {
    return answer({ ...this.#credentials }, callback);
  }

  setX509Options(x509: X509): void {
    this.#credentials.x509 = x509;
  }
}

/** The SDK calls with a callback, and expects it in the same turn; people call for a promise. */
function answer(credentials: TransportConfig, callback?: CredentialsCallback): Promise<TransportConfig> | undefined {
  if (callback === undefined) return Promise.resolve(credentials);
  callback(null, credentials);
  return undefined;
}

export interface Directions {
  /** Asked before each connection, and waited for. */
  pace: Pace | undefined;
  isConnected(): boolean;
  /** What the SDK makes its address from; another one after the gateway was replaced. */
  gatewayHostName(): string;
}

/**
 * Puts pace and gateway where each connection of the SDK begins: it asks its provider for the credentials. AMQP asks
 * again on the connection that then stands.
 */
export function direct(provider: AuthenticationProvider, { pace, isConnected, gatewayHostName }: Directions): void {
  const original = provider.getDeviceCredentials.bind(provider) as (callback: CredentialsCallback) => void;
  const ask = (callback: CredentialsCallback) =>
    original((error, credentials) => {
      if (error || credentials === undefined) callback(error);
      else callback(null, { ...credentials, gatewayHostName: gatewayHostName() });
    });
  Object.assign(provider, {
    getDeviceCredentials(callback?: CredentialsCallback): Promise<TransportConfig> | undefined {
      if (callback === undefined) {
        return new Promise((resolve, reject) =>
          ask((error, credentials) => (credentials === undefined ? reject(error) : resolve(credentials))),
        );
      }
      if (pace === undefined || isConnected()) ask(callback);
      else pace.wait((error) => (error === undefined ? ask(callback) : callback(error)));
      return undefined;
    },
  });
}
