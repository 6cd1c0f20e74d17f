import type { X509Certificate } from 'node:crypto';
import type { ConnectionString } from '../connection-string.ts';
import type { OnboardingDocument } from '../document.ts';
import type { ClientCertificate } from '../session.ts';
import type { CommonValues, Finding } from './findings.ts';
import type { Observations } from './observations.ts';

/** Whether a check may log in: see {@link Own}. */
export type ConnectMode = 'always' | 'never' | 'unless-connected';

/** Null where the gateway does not serve it. */
export interface Listeners {
  mqtt: number | null;
  amqp: number | null;
  websocket: number | null;
}

/** What a device has of its own; a bare look at a gateway has none of it. */
export interface Own {
  document: OnboardingDocument;
  string: ConnectionString;
  /** `deviceId` or `deviceId/moduleId`: the MQTT client id. */
  id: string;
  /** `hub/devices/deviceId[/modules/moduleId]`: what a SAS token of it is for. */
  resource: string;
  certificate: ClientCertificate | undefined;
  connect: ConnectMode;
}

/** What all checks look at. */
export interface Context {
  common: CommonValues;
  host: string;
  ports: Listeners;
  /** The port at which TLS is looked at: MQTT's, or the first that is served. They have one certificate. */
  port: number;
  trusted: X509Certificate[];
  /** The same, as one PEM text. */
  roots: string;
  own: Own | undefined;
  /** What the state folder itself gave rise to. */
  stateFindings: Finding[];
  timeoutMs: number;
  observe: Observations;
}

/** What became of a check: what it found, or which other check has to be well first. */
export type Outcome = Finding[] | { skippedFor: CheckName };

export const checkNames = [
  'state',
  'clock',
  'dns',
  'ports',
  'tls',
  'chain',
  'name',
  'expiry',
  'edge-ca',
  'verification',
  'credential',
  'identity',
  'connect',
  'peer',
  'agreement',
] as const;

export type CheckName = (typeof checkNames)[number];

export interface Check {
  name: CheckName;
  /** What it asks, in a few words. */
  title: string;
  /** The checks without whose success this one would only report their consequences. */
  needs: readonly CheckName[];
  /** True where there is nothing to ask without a state folder. */
  ownOnly: boolean;
  run(context: Context): Promise<Outcome> | Outcome;
}
