import type { Client, ModuleClient } from 'azure-iot-device';
import { parseConnectionString } from './connection-string.ts';
import { type OnboardingDocument, parseDocument, rootsPem } from './document.ts';
import { GatepostDeviceError, reasonOf } from './errors.ts';
import { type Change, Keeper } from './keeper.ts';
import { Pace, stormMessage } from './pace.ts';
import { gatewayAddress } from './protocol.ts';
import { type ClientCertificate, openSession, type Session, type SessionOptions } from './session.ts';
import { readDocument } from './state.ts';
import { defaultStateFolder } from './state-folder.ts';
import { followTwin } from './twin-trust.ts';

export interface ConnectOptions extends Omit<SessionOptions, 'document' | 'pace' | 'makeProvider'> {
  /** The folder that `gatepost-device join` filled. Default: the same one that `join` uses. */
  state?: string;
  /** An onboarding document in place of a state folder. */
  document?: OnboardingDocument;
  certificate?: ClientCertificate;
  /**
   * Fetches fresh SAS tokens, newer roots and a replaced gateway, and keeps them in the state folder. Default: true with
   * a state folder; a document alone stays as it is.
   */
  keepFresh?: boolean;
  /** One line of warning or progress; never a secret. Default: `process.emitWarning`. */
  log?: (line: string) => void;
}

const closeTimeoutMs = 5_000;

/**
 * Connects through the gateway and answers the opened client of azure-iot-device: a `Client`, or a `ModuleClient` where
 * the document names a module (then write `connect<ModuleClient>()`). It can reach nothing but the gateway, now and on every reconnection.
 *
 * The SDK retries lost operations for up to four minutes by itself, and some (an unanswered `getTwin`) for ever: put
 * time limits around them. Reconnections are paced, so that two clients with one identity do not storm the gateway.
 * Close the client with `client.close()`.
 *
 * @throws {GatepostDeviceError} with a stable `code` that names the fault, such as `chain_untrusted`,
 * `host_name_mismatch`, `credential_refused` or `gateway_unreachable`.
 */
export async function connect<C extends Client | ModuleClient = Client>(options: ConnectOptions = {}): Promise<C> {
  const { state, document: given, keepFresh = true, log = emitWarning, ...session } = options;
  if (state !== undefined && given !== undefined) {
    throw new GatepostDeviceError('usage', 'connect() takes a state folder or a document, not both.');
  }
  const folder = state ?? defaultStateFolder();
  const document = given === undefined ? await readDocument(folder) : parseDocument(given);
  const { id } = document.device;
  const pace = new Pace({ onStorm: (connections) => log(stormMessage(id, connections)) });
  const isKept = keepFresh && given === undefined;
  const keeper = isKept ? await Keeper.start({ document, state: folder, log }) : undefined;
  try {
    await keeper?.renewExpired();
    const opened = await openSession({ ...session, document: keeper?.document ?? document, pace });
    const ended = new AbortController();
    if (keeper !== undefined) keep(opened, keeper, log, ended.signal);
    return closing(opened.client, () => {
      ended.abort();
      pace.cancel();
      keeper?.stop();
      // The SDK says goodbye, and waits for an answer that a half-open connection never gives.
      setTimeout(() => void opened.door.destroy(), closeTimeoutMs).unref();
    }) as C;
  } catch (error) {
    keeper?.stop();
    throw error;
  }
}

/** Brings each change to the client that stands. */
function keep(session: Session, keeper: Keeper, log: (line: string) => void, ended: AbortSignal): void {
  const { client, door } = session;
  keeper.onChange((change) => apply(change, session, log));
  // What a link of AMQP reports, and nobody else listens to, would end the process.
  client.on('error', (error: unknown) => log(`the client reports: ${reasonOf(error)}`));
  client.on('disconnect', () => void keeper.inDoubt());
  void followTwin({ session, keeper, log, ended }).then(() => door.trust(rootsPem(keeper.document.trust)));
}

function apply({ what, document }: Change, session: Session, log: (line: string) => void): void {
  const { door } = session;
  const { credential } = parseConnectionString(document.connectionString);
  door.trust(rootsPem(document.trust));
  if (what === 'gateway') {
    try {
      const { host, port } = gatewayAddress(document, door.protocol);
      if (host !== door.address.host || port !== door.address.port) door.move({ host, port });
    } catch (error) {
      log(reasonOf(error));
    }
  }
  if (credential.kind === 'sas') session.renewToken(credential.sharedAccessSignature);
}

/** The client, which also ends what was begun beside it when it is closed. */
export function closing(client: Client | ModuleClient, end: () => void): Client | ModuleClient {
  const close = client.close.bind(client) as (...parameters: unknown[]) => unknown;
  return Object.assign(client, {
    close: (...parameters: unknown[]) => {
      end();
      return close(...parameters);
    },
  });
}

export function emitWarning(line: string): void {
  process.emitWarning(line, { type: 'GatepostDeviceWarning' });
}
