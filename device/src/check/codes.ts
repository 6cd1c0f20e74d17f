import { agreementCodes } from './agreement.ts';
import { chainCodes } from './chain.ts';
import { clockCodes } from './clock.ts';
import { connectCodes } from './connect.ts';
import type { CheckName } from './context.ts';
import { credentialCodes } from './credential.ts';
import { dnsCodes } from './dns.ts';
import { edgeCaCodes } from './edge-ca.ts';
import { expiryCodes } from './expiry.ts';
import type { CodeEntry } from './findings.ts';
import { identityCodes } from './identity.ts';
import { nameCodes } from './name.ts';
import { peerCodes } from './peer.ts';
import { portsCodes } from './ports.ts';
import { stateCodes } from './state.ts';
import { tlsCodes } from './tls.ts';
import { verificationCodes } from './verification.ts';

/** Every code that a check can find, by check. Codes are part of the interface: they are added, not changed. */
export const codesByCheck = {
  state: stateCodes,
  clock: clockCodes,
  dns: dnsCodes,
  ports: portsCodes,
  tls: tlsCodes,
  chain: chainCodes,
  name: nameCodes,
  expiry: expiryCodes,
  'edge-ca': edgeCaCodes,
  verification: verificationCodes,
  credential: credentialCodes,
  identity: identityCodes,
  connect: connectCodes,
  peer: peerCodes,
  agreement: agreementCodes,
} as const satisfies Record<CheckName, Record<string, CodeEntry>>;

type KeysOf<T> = T extends unknown ? keyof T : never;

export type CheckCode = KeysOf<(typeof codesByCheck)[CheckName]>;

/** The same, of all checks together. */
export const checkCodes = Object.assign({}, ...Object.values(codesByCheck)) as Record<CheckCode, CodeEntry>;
