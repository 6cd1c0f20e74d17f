import type { Agent } from 'node:https';
import type { TokenCredential } from '@azure/identity';
import type { CertificateClient, CertificateContentType } from '@azure/keyvault-certificates';
import type { SecretClient } from '@azure/keyvault-secrets';
import type { Config } from '../config.ts';
import { GatepostError } from '../errors.ts';
import { toPem } from '../trust/certificate.ts';
import type { AuthorityMaterial } from '../trust/material.ts';
import type { RootStore, RootTags } from '../trust/root-store.ts';
import { traceparentPolicy } from './traceparent-policy.ts';
import { type Upstream, UpstreamStatusError, upstream } from './upstream.ts';

export interface VaultOptions {
  config: Pick<Config, 'vaultUrl' | 'upstreamTimeoutMs'>;
  agent: Agent;
  credential: TokenCredential;
  /** Who changes what the vault holds. Default: whoever reads. */
  managerCredential?: TokenCredential | undefined;
}

/** A kind of object in the vault, as far as bringing one back is concerned. */
interface Shelf {
  what: string;
  /** The latest version that carries the fingerprint; undefined where there is none. */
  find(name: string, sha256: string): Promise<string | undefined>;
  recover(name: string): Promise<unknown>;
}

const pemType = 'application/x-pem-file';
const pfxType = 'application/x-pkcs12';
const recoveryPollMs = 500;
const mostRecoveryLooks = 20;

/**
 * Roots in Key Vault. A public root is a secret, since Key Vault imports no certificate without its private key; a CA with
 * its key is a certificate whose key cannot be exported. Who reads needs Key Vault Certificate User, which may read
 * secrets too; who manages needs Key Vault Secrets Officer and Key Vault Certificates Officer.
 */
export function vaultRootStore(options: VaultOptions): RootStore {
  const call = upstream({ service: 'Key Vault', timeoutMs: options.config.upstreamTimeoutMs });
  const manager = { ...options, credential: options.managerCredential ?? options.credential };
  const secrets = once(() => secretClient(options));
  const certificates = once(() => certificateClient(options));
  const managedSecrets = once(() => secretClient(manager));
  const managedCertificates = once(() => certificateClient(manager));
  return {
    async put(objectName, { pem, authority }, tags) {
      if (authority === undefined) return putSecret(await managedSecrets(), call, objectName, pem, tags);
      return putCertificate(await managedCertificates(), call, objectName, authority, tags);
    },
    async read({ kind, objectName, version }) {
      const read =
        kind === 'public'
          ? await readSecret(await secrets(), call, objectName, version)
          : await readCertificate(await certificates(), call, objectName, version);
      return read;
    },
    async remove({ kind, objectName }) {
      if (kind === 'public') await removeSecret(await managedSecrets(), call, objectName);
      else await removeCertificate(await managedCertificates(), call, objectName);
    },
  };
}

/** Asks the vault for something that is not there: any answer but a failure shows that it can be reached and allows reads. */
export async function probeVault(options: VaultOptions): Promise<void> {
  const call = upstream({ service: 'Key Vault', timeoutMs: options.config.upstreamTimeoutMs, waitBudgetMs: 0 });
  await readSecret(await secretClient(options), call, 'gatepost-probe', '');
}

async function putSecret(
  client: SecretClient,
  call: Upstream,
  name: string,
  pem: string,
  tags: RootTags,
): Promise<string> {
  const shelf: Shelf = {
    what: 'a secret',
    find: async (wanted, sha256) => {
      const properties = await secretProperties(client, call, wanted);
      return properties?.tags?.sha256 === sha256 && properties.enabled !== false ? properties.version : undefined;
    },
    recover: (deleted) =>
      retrying(call, 'recover a secret', (abortSignal) => client.beginRecoverDeletedSecret(deleted, { abortSignal })),
  };
  return putOn(shelf, name, tags.sha256, async () => {
    const secret = await retrying(call, 'write a secret', (abortSignal) =>
      client.setSecret(name, pem, { contentType: pemType, tags: { ...tags }, abortSignal }),
    );
    return secret.properties.version;
  });
}

async function putCertificate(
  client: CertificateClient,
  call: Upstream,
  name: string,
  authority: AuthorityMaterial,
  tags: RootTags,
): Promise<string> {
  const shelf: Shelf = {
    what: 'a certificate',
    find: async (wanted, sha256) => {
      const properties = await certificateProperties(client, call, wanted);
      return properties?.tags?.sha256 === sha256 && properties.enabled !== false ? properties.version : undefined;
    },
    recover: (deleted) =>
      retrying(call, 'recover a certificate', (abortSignal) =>
        client.beginRecoverDeletedCertificate(deleted, { abortSignal }),
      ),
  };
  const isPem = authority.format === 'pem';
  const bytes = Buffer.from(authority.content.reveal(), isPem ? 'utf8' : 'base64');
  const password = isPem ? undefined : authority.password?.reveal();
  const contentType: CertificateContentType = isPem ? pemType : pfxType;
  const settings = {
    ...(password === undefined ? {} : { password }),
    policy: { contentType, exportable: false, issuerName: 'Unknown' },
    // Not exportable: the key signs in the vault and never comes out. The client (4.10.3) only looks at `policy` for the
    // encoding and sends `certificatePolicy`, which its types lack: without it every imported key could be exported.
    certificatePolicy: {
      keyProperties: { exportable: false },
      secretProperties: { contentType },
      issuerParameters: { name: 'Unknown' },
    },
    tags: { ...tags },
  };
  return putOn(shelf, name, tags.sha256, async () => {
    const imported = await retrying(call, 'import a certificate', (abortSignal) =>
      client.importCertificate(name, bytes, { ...settings, abortSignal }),
    );
    return imported.properties.version;
  });
}

/**
 * Finds the object as it should be, or writes it; where its name is in the vault's bin, takes it out and looks again.
 * Key Vault answers 409 for a name that is in the bin, or on its way in or out of it.
 */
async function putOn(
  shelf: Shelf,
  name: string,
  sha256: string,
  write: () => Promise<string | undefined>,
): Promise<string> {
  for (let look = 0; look < mostRecoveryLooks; look += 1) {
    const found = await shelf.find(name, sha256);
    if (found !== undefined) return found;
    try {
      const version = await write();
      if (version !== undefined) return version;
    } catch (error) {
      if (!hasStatus(error, 409)) throw error;
    }
    // 404: it has just been taken out by somebody else. 409: it is still on its way into the bin.
    await shelf.recover(name).catch((error: unknown) => {
      if (!hasStatus(error, 404) && !hasStatus(error, 409)) throw error;
    });
    await new Promise((resolve) => setTimeout(resolve, look === 0 ? 0 : recoveryPollMs));
  }
  throw new GatepostError(
    'upstream_unavailable',
    `Key Vault is still deleting ${shelf.what} of that name. Repeat the call.`,
    {
      retryAfterSeconds: 10,
    },
  );
}

async function secretProperties(client: SecretClient, call: Upstream, name: string) {
  const read = retrying(call, 'read a secret', (abortSignal) => client.getSecret(name, { abortSignal }));
  return (await read.catch(missing))?.properties;
}

async function certificateProperties(client: CertificateClient, call: Upstream, name: string) {
  const read = retrying(call, 'read a certificate', (abortSignal) => client.getCertificate(name, { abortSignal }));
  return (await read.catch(missing))?.properties;
}

async function readSecret(
  client: SecretClient,
  call: Upstream,
  name: string,
  version: string,
): Promise<string | undefined> {
  const read = retrying(call, 'read a secret', (abortSignal) =>
    client.getSecret(name, version === '' ? { abortSignal } : { version, abortSignal }),
  );
  return (await read.catch(missing))?.value;
}

async function readCertificate(
  client: CertificateClient,
  call: Upstream,
  name: string,
  version: string,
): Promise<string | undefined> {
  const read = retrying(call, 'read a certificate', (abortSignal) =>
    client.getCertificateVersion(name, version, { abortSignal }),
  );
  const der = (await read.catch(missing))?.cer;
  return der === undefined ? undefined : toPem(der);
}

async function removeSecret(client: SecretClient, call: Upstream, name: string): Promise<void> {
  // The poller's first request is the delete itself; that the object has reached the bin need not be waited for.
  await retrying(call, 'delete a secret', (abortSignal) => client.beginDeleteSecret(name, { abortSignal })).catch(gone);
}

async function removeCertificate(client: CertificateClient, call: Upstream, name: string): Promise<void> {
  await retrying(call, 'delete a certificate', (abortSignal) =>
    client.beginDeleteCertificate(name, { abortSignal }),
  ).catch(gone);
}

/** Every call that is made here may be repeated: one more version of the same content does no harm. */
function retrying<T>(call: Upstream, operation: string, attempt: (signal: AbortSignal) => Promise<T>): Promise<T> {
  return call({ operation, repeatable: true, attempt });
}

function missing(error: unknown): undefined {
  if (!hasStatus(error, 404)) throw error;
}

/** 409: it is being deleted already. */
function gone(error: unknown): void {
  if (!hasStatus(error, 404) && !hasStatus(error, 409)) throw error;
}

function hasStatus(error: unknown, status: number): boolean {
  return error instanceof UpstreamStatusError && error.upstreamStatus === status;
}

// Retries are counted in one place: upstream.ts.
const clientOptions = (agent: Agent) =>
  ({ agent, retryOptions: { maxRetries: 0 }, additionalPolicies: [traceparentPolicy] }) as object;

async function secretClient({ config, agent, credential }: VaultOptions): Promise<SecretClient> {
  const { SecretClient } = await import('@azure/keyvault-secrets');
  return new SecretClient(config.vaultUrl, credential, clientOptions(agent));
}

async function certificateClient({ config, agent, credential }: VaultOptions): Promise<CertificateClient> {
  const { CertificateClient } = await import('@azure/keyvault-certificates');
  return new CertificateClient(config.vaultUrl, credential, clientOptions(agent));
}

function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make();
    return made;
  };
}
