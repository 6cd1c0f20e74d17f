import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import type { Reply } from '../kit/https-server.ts';
import { keyMismatch, parseCertificate } from './certificate-content.ts';
import { makeRequest, makeSelfSigned } from './certificate-making.ts';
import { type CertificatePolicy, readPolicy } from './certificate-policy.ts';
import type { OwnedCertificates, PendingOperation, StoredCertificate } from './certificate-store.ts';
import { bundle } from './certificates.ts';
import { readAttributes, readFlag, readObject, readTags, readTexts } from './checks.ts';
import { badParameter, VaultError } from './errors.ts';
import { generateKey, toPkcs8 } from './key-material.ts';
import type { VaultSettings } from './object-store.ts';
import type { Call, Operation } from './operations.ts';
import { objectId } from './shapes.ts';

const toBeMerged = 'Pending certificate created. Please Perform Merge to complete the request.';
const beingMade =
  'Pending certificate created. Certificate request is in progress. This may take some time based on the issuer provider. Please check again later.';

/** The operations that make a certificate: create, watch or cancel it, and merge what a CA signed. */
export function pendingOperations(settings: VaultSettings, owned: OwnedCertificates): Operation[] {
  const service = new PendingCertificates(settings, owned);
  const create: [string] = ['certificates/create/action'];
  const update: [string] = ['certificates/update/action'];
  const path = '/certificates/{name}/pending';
  return [
    { method: 'POST', path: '/certificates/{name}/create', actions: create, act: (call) => service.create(call) },
    { method: 'POST', path: `${path}/merge`, actions: create, act: (call) => service.merge(call) },
    { method: 'GET', path, actions: ['certificates/read'], act: (call) => service.get(call) },
    { method: 'PATCH', path, actions: update, act: (call) => service.cancel(call) },
    { method: 'DELETE', path, actions: update, act: (call) => service.delete(call) },
  ];
}

class PendingCertificates {
  readonly #settings: VaultSettings;
  readonly #owned: OwnedCertificates;

  constructor(settings: VaultSettings, owned: OwnedCertificates) {
    this.#settings = settings;
    this.#owned = owned;
  }

  /** `Self` is signed here and now, `Unknown` waits for a merge. The answer says "in progress" for both, as Azure's does. */
  async create({ params: { name = '' }, query, body }: Call): Promise<Reply> {
    const tags = readTags(body);
    const { enabled = true } = readAttributes(body);
    this.#owned.checkFree(name);
    const base = this.#owned.certificates.find(name)?.policy;
    const policy = readPolicy(readObject(body, 'policy') ?? {}, this.#settings.now(), base);
    const { name: issuer } = policy.issuer;
    if (issuer !== 'Self' && issuer !== 'Unknown') {
      throw badParameter(`Issuer '${issuer}' is not spoken here: no certification authority is connected.`);
    }
    const privateKey = this.#keyFor(name, policy);
    const csr = await makeRequest(policy, privateKey);
    const made = issuer === 'Self' ? await makeSelfSigned(policy, privateKey, new Date()) : undefined;
    // Signing took a moment, in which somebody else may have begun.
    this.#owned.checkFree(name);
    const pending = { privateKey: toPkcs8(privateKey), csr: csr.toString('base64'), issuer, tags, enabled };
    const object = this.#owned.begin(name, policy, { ...pending, status: 'inProgress', cancellationRequested: false });
    const operation = find(object);
    const location = `${this.#id(object)}/pending?api-version=${query.get('api-version')}&request_id=${operation.requestId}`;
    const reply = { status: 202, headers: { location, 'retry-after': '0' }, body: this.#operation(object, operation) };
    if (made !== undefined) this.#complete(object, operation, new X509Certificate(made), []);
    return reply;
  }

  /** A `request_id` in the query is a filter: another operation's is not found. */
  get({ params: { name = '' }, query }: Call): Reply {
    const object = this.#object(name);
    const pending = find(object);
    if ((query.get('request_id') ?? pending.requestId) !== pending.requestId) throw noPending(name);
    const headers = pending.status === 'inProgress' ? { 'retry-after': '0' } : {};
    return { status: 200, headers, body: this.#operation(object, pending) };
  }

  merge({ params: { name = '' }, query, body }: Call): Reply {
    const object = this.#object(name);
    const pending = find(object);
    if (pending.status !== 'inProgress') {
      throw new VaultError(409, 'Conflict', `The pending key vault certificate's status is ${pending.status}.`);
    }
    const given = readTexts(body, 'x5c') ?? [];
    if (given.length === 0) throw badParameter('Property x5c has invalid value\r\n');
    const certificates = given.map(readX5c);
    const privateKey = createPrivateKey(pending.privateKey);
    const certificate = certificates.find((candidate) => candidate.checkPrivateKey(privateKey));
    if (certificate === undefined) throw badParameter(keyMismatch);
    const { enabled = pending.enabled } = readAttributes(body);
    const tags = readTags(body) ?? pending.tags;
    Object.assign(pending, { enabled, tags });
    const chain = certificates.filter((other) => other !== certificate).map((other) => other.raw);
    const version = this.#complete(object, pending, certificate, chain);
    const location = `${this.#id(object)}?api-version=${query.get('api-version')}`;
    return { status: 201, headers: { location }, body: bundle(this.#settings, object, version) };
  }

  /** A cancellation is only asked for. Nobody but the caller could act on it, so that the operation stays in progress. */
  cancel({ params: { name = '' }, body }: Call): Reply {
    const object = this.#object(name);
    const pending = find(object);
    if (readFlag(body, 'cancellation_requested') !== true) {
      throw badParameter('Property cancellation_requested has invalid value');
    }
    if (pending.status !== 'inProgress') throw badParameter(`The operation's status is ${pending.status}.`);
    pending.cancellationRequested = true;
    this.#settings.touch();
    return { status: 200, body: this.#operation(object, pending) };
  }

  /** Ends the operation; the certificate itself stays, and is deleted by itself (Azure/azure-cli issue 1283). */
  delete({ params: { name = '' } }: Call): Reply {
    const object = this.#object(name);
    const pending = find(object);
    delete object.pending;
    this.#settings.touch();
    return { status: 200, body: this.#operation(object, pending) };
  }

  #keyFor(name: string, policy: CertificatePolicy): KeyObject {
    const kept = policy.key_props.reuse_key ? this.#owned.lastKey(name) : undefined;
    return kept ?? generateKey({ ...policy.key_props });
  }

  #complete(object: StoredCertificate, pending: PendingOperation, certificate: X509Certificate, chain: Buffer[]) {
    pending.status = 'completed';
    const { enabled, tags } = pending;
    const privateKey = createPrivateKey(pending.privateKey);
    return this.#owned.add(object.name, { certificate, privateKey, chain, policy: object.policy, enabled, tags });
  }

  #object(name: string): StoredCertificate {
    const object = this.#owned.certificates.find(name);
    if (object === undefined) throw noPending(name);
    return object;
  }

  #id(object: StoredCertificate): string {
    return objectId(this.#settings, 'certificates', object.name);
  }

  #operation(object: StoredCertificate, pending: PendingOperation): Record<string, unknown> {
    const id = this.#id(object);
    const details = pending.issuer === 'Self' ? beingMade : toBeMerged;
    return {
      id: `${id}/pending`,
      issuer: { name: pending.issuer },
      csr: pending.csr,
      cancellation_requested: pending.cancellationRequested,
      status: pending.status,
      ...(pending.status === 'inProgress' ? { status_details: details } : {}),
      ...(pending.status === 'completed' ? { target: id } : {}),
      request_id: pending.requestId,
    };
  }
}

/**
 * One certificate of a merge. The clients' README sends base64 of base64, which the recordings of their own tests show to
 * be taken.
 */
function readX5c(text: string): X509Certificate {
  const bytes = Buffer.from(text, 'base64');
  const isText = /^[A-Za-z0-9+/=\s]+(-----END CERTIFICATE-----\s*)?$/.test(bytes.toString('latin1'));
  const der = isText ? Buffer.from(bytes.toString('latin1').replace(/-----[A-Z ]+-----/g, ''), 'base64') : bytes;
  return parseCertificate(der, 'Property x5c has invalid value\r\n');
}

function find(object: StoredCertificate): PendingOperation {
  if (object.pending === undefined) throw noPending(object.name);
  return object.pending;
}

function noPending(name: string): VaultError {
  return new VaultError(404, 'PendingCertificateNotFound', `Pending certificate not found: ${name}`);
}
