import { X509Certificate } from 'node:crypto';
import { type ApiOptions, callApi, jsonOf, parseApiUrl, unexpected } from './api.ts';
import { fingerprint, parseFingerprint } from './certificates.ts';
import { containsRoot, type OnboardingDocument, parseDocument, parseTrustBundle } from './document.ts';
import { GatepostDeviceError } from './errors.ts';
import { prepareFolder, refuseLowerSequence, storeDocument } from './state.ts';

export interface JoinOptions extends ApiOptions {
  api: string;
  /** The one-time join token. */
  token: string;
  /** SHA-256 of the root that the device was told to trust, by a way that nobody on the network can change. */
  rootSha256: string;
  state: string;
  now?: () => Date;
}

export interface JoinDocumentOptions {
  /** The onboarding document, as JSON text. */
  document: string;
  /** Checked where given. */
  rootSha256?: string | undefined;
  state: string;
  now?: () => Date;
}

/**
 * Joins over the network. Nothing that the API says is believed before its root has the pinned fingerprint, and the
 * token, which works once, is spent only after the trust is proven and the state folder is writable.
 */
export async function join(options: JoinOptions): Promise<OnboardingDocument> {
  const api = parseApiUrl(options.api);
  const pin = parseFingerprint(options.rootSha256);
  await checkPinnedRoot(api, pin, options);
  const bundle = await fetchBundle(api, options);
  if (!containsRoot(bundle, pin)) throw notInside('trust bundle', pin);
  await refuseLowerSequence(options.state, bundle.sequence);
  await prepareFolder(options.state);
  const document = await redeem(api, options);
  if (!containsRoot(document.trust, pin)) throw notInside('onboarding document', pin);
  // Instances of the backend learn of a new bundle at different moments: keep the newer of the two that were proven.
  if (document.trust.sequence < bundle.sequence) document.trust = bundle;
  const joinedAt = (options.now?.() ?? new Date()).toISOString();
  await storeDocument(options.state, { document, origin: { api: api.href, rootSha256: pin, joinedAt } });
  return document;
}

/** Joins with a document that was carried to the device, for one without a way to the API. */
export async function joinWithDocument(options: JoinDocumentOptions): Promise<OnboardingDocument> {
  const pin = options.rootSha256 === undefined ? null : parseFingerprint(options.rootSha256);
  let value: unknown;
  try {
    value = JSON.parse(options.document);
  } catch {
    // The parser's message would quote the text, which may hold a key.
    throw new GatepostDeviceError('document_invalid', 'The onboarding document is not JSON.');
  }
  const document = parseDocument(value);
  if (pin !== null && !containsRoot(document.trust, pin)) throw notInside('onboarding document', pin);
  const joinedAt = (options.now?.() ?? new Date()).toISOString();
  await storeDocument(options.state, { document, origin: { api: null, rootSha256: pin, joinedAt } });
  return document;
}

async function checkPinnedRoot(api: URL, pin: string, options: ApiOptions): Promise<void> {
  const path = `/api/v1/trust-bundle/roots/${pin}`;
  const answer = await callApi(api, { method: 'GET', path, accept: 'application/x-pem-file, */*;q=0.1' }, options);
  if (answer.status === 404) {
    throw new GatepostDeviceError(
      'pin_mismatch',
      `${api.origin} does not trust a root with SHA-256 ${pin}: the pin is wrong, the root was retired, or this is another installation.`,
    );
  }
  if (answer.status !== 200) throw unexpected(api, path, answer);
  let served: string;
  try {
    served = fingerprint(new X509Certificate(answer.body));
  } catch {
    throw new GatepostDeviceError(
      'pin_mismatch',
      `${api.origin} served something that is no certificate for the root with SHA-256 ${pin}.`,
    );
  }
  if (served === pin) return;
  throw new GatepostDeviceError(
    'pin_mismatch',
    `${api.origin} served a root with SHA-256 ${served} in place of the pinned ${pin}: nothing was trusted.`,
  );
}

async function fetchBundle(api: URL, options: ApiOptions) {
  const path = '/api/v1/trust-bundle?format=json';
  const answer = await callApi(api, { method: 'GET', path, accept: 'application/json' }, options);
  if (answer.status !== 200) throw unexpected(api, path, answer);
  return parseTrustBundle(jsonOf(api, answer));
}

async function redeem(api: URL, options: JoinOptions): Promise<OnboardingDocument> {
  const path = '/api/v1/join';
  const request = { method: 'POST', path, accept: 'application/json', json: { token: options.token } } as const;
  const answer = await callApi(api, request, options).catch((error: unknown) => {
    if (!(error instanceof GatepostDeviceError) || error.code !== 'api_unreachable') throw error;
    throw new GatepostDeviceError(
      error.code,
      `${error.message} The join token may be spent: if it is refused next time, ask for a new one.`,
      { cause: error },
    );
  });
  if (answer.status === 401 || answer.status === 403) {
    throw new GatepostDeviceError(
      'join_token_refused',
      'The join token is not accepted: it was used already, has expired (600 s by default), or belongs to another installation. Ask for a new one.',
    );
  }
  if (answer.status !== 200) throw unexpected(api, path, answer);
  return parseDocument(jsonOf(api, answer));
}

function notInside(what: string, pin: string): GatepostDeviceError {
  return new GatepostDeviceError(
    'pin_mismatch',
    `The ${what} does not contain the pinned root ${pin}: it was not installed.`,
  );
}
