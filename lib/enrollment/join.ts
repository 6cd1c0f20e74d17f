import {
  type CredentialKind,
  type CredentialRequest,
  defaultCredential,
  issueCredential,
  requireCredential,
} from '../credentials/issue.ts';
import { readSubject, type Subject } from '../credentials/subject.ts';
import { GatepostError } from '../errors.ts';
import type { Fleet } from '../identity/fleet.ts';
import type { Redacted } from '../redacted.ts';
import { defaultJoinTtlSeconds, type Grant, type JoinTokens, joinTokenInvalid } from './join-tokens.ts';
import { type OnboardingDocument, onboardingDocument, type Trust } from './onboarding-document.ts';

export interface JoinTokenInput {
  ttlSeconds?: number | undefined;
  moduleId?: string | undefined;
  credential?: CredentialKind | undefined;
}

/** Issues a one-time token for what could be handed out now; throws what {@link readSubject} throws, or `credential_mismatch`. */
export async function issueJoinToken(
  fleet: Fleet,
  tokens: JoinTokens,
  deviceId: string,
  input: JoinTokenInput,
): Promise<{ token: Redacted; expiresAt: string }> {
  const subject = await readSubject(fleet, deviceId, input.moduleId ?? null);
  const credential = input.credential ?? defaultCredential(subject.authentication);
  requireCredential(subject.authentication, credential, deviceId);
  const { hubHostname, moduleId, device } = subject;
  const grant = { hubHostname, deviceId, generationId: device.generationId, moduleId, credential };
  return tokens.issue(grant, input.ttlSeconds ?? defaultJoinTtlSeconds);
}

/**
 * Redeems a join token: the document is made first and the token used up last, so that a fault on the way costs no token
 * and of many concurrent calls exactly one gets an answer. Throws `join_token_invalid` and nothing that tells why.
 *
 * @param record is called just before the token is used up; what it throws costs no token either.
 */
export async function redeemJoinToken(
  fleet: Fleet,
  tokens: JoinTokens,
  token: string,
  trust: () => Promise<Trust>,
  record: (grant: Grant) => Promise<void>,
): Promise<OnboardingDocument> {
  const held = await tokens.look(token);
  if (held.hubHostname !== fleet.registry.hostname) throw joinTokenInvalid('other_hub');
  const subject = await readSubject(fleet, held.deviceId, held.moduleId).catch(foreign);
  if (subject.device.generationId !== held.generationId) throw joinTokenInvalid('device_made_anew');
  const bundle = await trust();
  let document: OnboardingDocument;
  try {
    document = documentOf(fleet, subject, { credential: held.credential }, bundle);
  } catch (error) {
    return foreign(error);
  }
  await record(held);
  await tokens.consume(held);
  return document;
}

/** A document whose credential is short-lived, for a device that has proven itself. */
export async function refreshDocument(
  fleet: Fleet,
  identity: { deviceId: string; moduleId: string | null },
  trust: Trust,
): Promise<{ document: OnboardingDocument; credential: CredentialKind }> {
  const subject = await readSubject(fleet, identity.deviceId, identity.moduleId);
  const credential = subject.authentication.type === 'sas' ? 'sas' : 'x509';
  return { document: documentOf(fleet, subject, { credential }, trust), credential };
}

function documentOf(fleet: Fleet, subject: Subject, request: CredentialRequest, trust: Trust): OnboardingDocument {
  const credential = issueCredential(subject, request, fleet.clock());
  return onboardingDocument({ ...subject, credential, trust });
}

/** Faults of a service are told as they are; whatever is the matter with the device is not the bearer's to know. */
function foreign(error: unknown): never {
  if (error instanceof GatepostError && error.status < 500) throw joinTokenInvalid(error.code);
  throw error;
}
