import type { Client, ModuleClient } from 'azure-iot-device';
import { type OnboardingDocument, parseDocument } from './document.ts';
import { GatepostDeviceError } from './errors.ts';
import { type ClientCertificate, openSession, type SessionOptions } from './session.ts';
import { defaultStateFolder, readDocument } from './state.ts';

export interface ConnectOptions extends Omit<SessionOptions, 'document' | 'pace'> {
  /** The folder that `gatepost-device join` filled. Default: the same one that `join` uses. */
  state?: string;
  /** An onboarding document in place of a state folder. */
  document?: OnboardingDocument;
  certificate?: ClientCertificate;
}

/**
 * Connects through the gateway and answers the opened client of azure-iot-device: a `Client`, or a `ModuleClient` where
 * the document names a module (then write `connect<ModuleClient>()`). It can reach nothing but the gateway, now and on every reconnection.
 *
 * The SDK retries lost operations for up to four minutes by itself, and some (an unanswered `getTwin`) for ever: put
 * time limits around them. Close the client with `client.close()`.
 *
 * @throws {GatepostDeviceError} with a stable `code` that names the fault, such as `chain_untrusted`,
 * `host_name_mismatch`, `credential_refused` or `gateway_unreachable`.
 */
export async function connect<C extends Client | ModuleClient = Client>(options: ConnectOptions = {}): Promise<C> {
  const { state, document: given, ...session } = options;
  if (state !== undefined && given !== undefined) {
    throw new GatepostDeviceError('usage', 'connect() takes a state folder or a document, not both.');
  }
  const document = given === undefined ? await readDocument(state ?? defaultStateFolder()) : parseDocument(given);
  const { client } = await openSession({ ...session, document });
  return client as C;
}
