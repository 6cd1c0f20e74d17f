import { randomUUID } from 'node:crypto';
import { Agent, request } from 'node:https';
import { ClientSecretCredential } from '@azure/identity';
import { CertificateClient } from '@azure/keyvault-certificates';
import { CryptographyClient, KeyClient, type KeyVaultKey } from '@azure/keyvault-keys';
import { SecretClient } from '@azure/keyvault-secrets';
import { type Entra, startEntra } from '../../../local/entra/entra.ts';
import { developmentCa, issue } from '../../../local/kit/certificates.ts';
import { FaultSwitch } from '../../../local/kit/faults.ts';
import { startVault, type Vault, type VaultOptions, type VaultRole } from '../../../local/vault/vault.ts';

const host = 'gatepost.vault.azure.net';

export interface TestVault {
  vault: Vault;
  entra: Entra;
  faults: FaultSwitch;
  tls: { cert: string; key: string };
  /** The real clients, signed in as an application with this role. URL, Host and SNI are those of Azure. */
  as(role: VaultRole | 'none'): Clients;
  /** A token of an application with this role. */
  token(role: VaultRole | 'none'): Promise<string>;
  /** One raw request; `authorization` absent sends a token of an administrator, `null` sends none. */
  call(method: string, path: string, options?: RawOptions): Promise<RawAnswer>;
  /** Stops the vault and starts it again with the same settings. */
  restart(): Promise<void>;
  close(): Promise<void>;
}

export interface Clients {
  secrets: SecretClient;
  certificates: CertificateClient;
  keys: KeyClient;
  crypto(key: KeyVaultKey | string): CryptographyClient;
}

interface RawOptions {
  authorization?: string | null;
  headers?: Record<string, string>;
  body?: unknown;
  text?: string;
}

export interface RawAnswer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: Record<string, unknown>;
  error: { code: string; message: string; innererror?: { code: string } };
}

const roles: (VaultRole | 'none')[] = [
  'Key Vault Administrator',
  'Key Vault Secrets Officer',
  'Key Vault Secrets User',
  'Key Vault Certificates Officer',
  'Key Vault Certificate User',
  'Key Vault Crypto Officer',
  'Key Vault Crypto User',
  'Key Vault Reader',
  'none',
];

/** A vault beside a tenant that has one application for each role, and one without any. */
export async function testVault(options: Partial<VaultOptions> = {}): Promise<TestVault> {
  const ca = await developmentCa(undefined);
  const server = await issue(ca, { commonName: 'localhost', names: ['localhost', '127.0.0.1', host] });
  const tls = { cert: server.chain, key: server.privateKey };
  const faults = new FaultSwitch();
  const clients = roles.map((name) => ({
    name,
    clientId: randomUUID(),
    clientSecret: randomUUID(),
    objectId: randomUUID(),
    roles: [],
  }));
  const entra = await startEntra({ faults, tls, clients });
  const start = () =>
    startVault({
      faults,
      tls,
      tenantId: entra.tenantId,
      tokens: (token, audience) => entra.verify(token, audience),
      roleAssignments: clients
        .filter(({ name }) => name !== 'none')
        .map(({ name, objectId }) => ({ objectId, role: name as VaultRole })),
      ...options,
    });
  let vault = await start();
  const agents: Agent[] = [];
  const agent = () => {
    // The agent's host and port win over the request's: nothing else of the URL changes.
    const made = new Agent({ ca: ca.certificate, host: '127.0.0.1', port: vault.port, keepAlive: true });
    agents.push(made);
    return made;
  };
  const clientOf = (role: VaultRole | 'none') => {
    const found = clients.find(({ name }) => name === role);
    if (found === undefined) throw new Error(`No client ${role}.`);
    return found;
  };
  const token = async (role: VaultRole | 'none') => {
    const { objectId, clientId } = clientOf(role);
    return entra.issue({ aud: 'https://vault.azure.net', oid: objectId, appid: clientId });
  };
  return {
    get vault() {
      return vault;
    },
    entra,
    faults,
    tls,
    token,
    as(role) {
      const { clientId, clientSecret } = clientOf(role);
      const credential = new ClientSecretCredential(entra.tenantId, clientId, clientSecret, {
        authorityHost: `https://localhost:${entra.port}`,
        disableInstanceDiscovery: true,
        tlsOptions: { ca: ca.certificate },
      });
      const shared = { agent: agent(), retryOptions: { maxRetries: 0 } };
      return {
        secrets: new SecretClient(vault.url, credential, shared),
        certificates: new CertificateClient(vault.url, credential, shared),
        keys: new KeyClient(vault.url, credential, shared),
        // Each overload takes one of the two.
        crypto: (key) =>
          typeof key === 'string'
            ? new CryptographyClient(key, credential, shared)
            : new CryptographyClient(key, credential, shared),
      };
    },
    call: async (method, path, sent = {}) => {
      const authorization =
        sent.authorization === undefined ? `Bearer ${await token('Key Vault Administrator')}` : sent.authorization;
      const separator = path.includes('?') ? '&' : '?';
      const target =
        path.includes('api-version') || path.includes('api%2Dversion')
          ? path
          : `${path}${separator}api-version=2025-07-01`;
      return raw(agent(), method, target.replace('api-version=none', ''), authorization, sent);
    },
    restart: async () => {
      await vault.close();
      vault = await start();
    },
    close: async () => {
      for (const made of agents) made.destroy();
      await Promise.all([vault.close(), entra.close()]);
    },
  };
}

function raw(
  agent: Agent,
  method: string,
  path: string,
  authorization: string | null,
  sent: RawOptions,
): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const text = sent.text ?? (sent.body === undefined ? undefined : JSON.stringify(sent.body));
    const headers = {
      ...(authorization === null ? {} : { authorization }),
      ...(text === undefined ? {} : { 'content-type': 'application/json' }),
      ...sent.headers,
    };
    const outgoing = request(`https://${host}${path}`, { method, agent, headers }, (response) => {
      let answer = '';
      response.on('data', (chunk) => {
        answer += String(chunk);
      });
      response.on('end', () => {
        const body = answer === '' ? {} : (JSON.parse(answer) as Record<string, unknown>);
        const error = (body.error ?? {}) as RawAnswer['error'];
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body, error });
      });
    });
    outgoing.on('error', reject);
    outgoing.end(text);
  });
}

/** Runs `act`, which must be refused, and answers what the SDK threw. */
export async function refusal(act: Promise<unknown>): Promise<{ statusCode: number; code: string; message: string }> {
  try {
    await act;
  } catch (error) {
    return error as { statusCode: number; code: string; message: string };
  }
  throw new Error('It was not refused.');
}

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}
