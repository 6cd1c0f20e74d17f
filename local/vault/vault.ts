import type { FaultSwitch } from '../kit/faults.ts';
import { serveHttps } from '../kit/https-server.ts';
import { StateFile } from '../kit/state-file.ts';
import type { TokenVerifier } from './access.ts';
import { type CertificateStore, OwnedCertificates, type StoredCertificate } from './certificate-store.ts';
import { certificateOperations } from './certificates.ts';
import { faultBody } from './errors.ts';
import { type IssuerState, issuerOperations } from './issuers.ts';
import { type KeyVersion, keyOperations } from './keys.ts';
import { ObjectStore, type StoredObject, type VaultSettings } from './object-store.ts';
import { answerUnknown, toRoute } from './operations.ts';
import { pendingOperations } from './pending-certificates.ts';
import type { RoleAssignment } from './roles.ts';
import { type SecretVersion, secretOperations } from './secrets.ts';

export type { TokenVerifier } from './access.ts';
export type { RoleAssignment, VaultRole } from './roles.ts';

export interface VaultOptions {
  faults: FaultSwitch;
  tls: { cert: string; key: string };
  /** The vault's name. Default `gatepost`: `https://gatepost.vault.azure.net`. */
  name?: string | undefined;
  tenantId: string;
  /** Keeps everything in the vault over a restart. */
  stateFile?: string | undefined;
  port?: number | undefined;
  tokens: TokenVerifier;
  roleAssignments: RoleAssignment[];
  /** How long a deleted object can be recovered. Default 90 days. */
  softDeleteSeconds?: number | undefined;
  purgeProtection?: boolean | undefined;
}

export interface Vault {
  /** What clients are given. An agent must lead them to `port` of 127.0.0.1; URL, Host and SNI stay. */
  url: string;
  port: number;
  close(): Promise<void>;
}

interface VaultState extends IssuerState {
  secrets: StoredObject<SecretVersion>[];
  keys: StoredObject<KeyVersion>[];
  certificates: StoredCertificate[];
}

/** Starts a key vault on loopback, with Azure RBAC, soft delete and challenge authentication. */
export async function startVault(options: VaultOptions): Promise<Vault> {
  const name = options.name ?? 'gatepost';
  const file = new StateFile<VaultState>(options.stateFile, () => contents());
  const stored = file.read();
  const settings: VaultSettings = {
    name,
    url: `https://${name}.vault.azure.net`,
    softDeleteSeconds: options.softDeleteSeconds ?? 90 * 86_400,
    purgeProtection: options.purgeProtection ?? false,
    now: () => Math.floor(Date.now() / 1000),
    touch: () => file.touch(),
  };
  const secrets: ObjectStore<SecretVersion> = new ObjectStore('secrets', settings, stored?.secrets);
  const keys: ObjectStore<KeyVersion> = new ObjectStore('keys', settings, stored?.keys);
  const certificates: CertificateStore = new ObjectStore('certificates', settings, stored?.certificates);
  const owned = new OwnedCertificates(settings, certificates, keys, secrets);
  const issuers: IssuerState = { issuers: stored?.issuers ?? [], contacts: stored?.contacts ?? [] };
  const contents = (): VaultState => ({
    secrets: secrets.all(),
    keys: keys.all(),
    certificates: certificates.all(),
    ...issuers,
  });
  const access = { vaultName: name, ...options };
  // The first match wins: fixed paths come before those with a name or a version in the same place.
  const operations = [
    ...secretOperations(settings, secrets),
    ...keyOperations(settings, keys),
    ...issuerOperations(settings, issuers),
    ...pendingOperations(settings, owned),
    ...certificateOperations(settings, owned),
  ];
  const server = await serveHttps({
    target: 'vault',
    faults: options.faults,
    tls: options.tls,
    port: options.port ?? 0,
    routes: operations.map((operation) => toRoute(access, operation)),
    fallback: (exchange) => answerUnknown(access, exchange),
    faultBody,
  });
  return {
    url: settings.url,
    port: server.port,
    close: async () => {
      await server.close();
      file.flush();
    },
  };
}
