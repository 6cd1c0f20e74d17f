import { type Agent, request } from 'node:https';
import { afterEach, describe, expect, it } from 'vitest';
import { azureAgent, endpointFor } from '../../../lib/azure/transport.ts';
import { developmentCa, issue } from '../../../local/kit/certificates.ts';
import { FaultSwitch } from '../../../local/kit/faults.ts';
import { type RunningServer, serveHttps } from '../../../local/kit/https-server.ts';

const cleanup: (() => void | Promise<void>)[] = [];

afterEach(async () => {
  for (const undo of cleanup.splice(0)) await undo();
});

async function startService(name: string): Promise<{ server: RunningServer; ca: string }> {
  const ca = await developmentCa(undefined);
  const certificate = await issue(ca, { commonName: name, names: [name] });
  const server = await serveHttps({
    target: 'vault',
    faults: new FaultSwitch(),
    tls: { cert: certificate.chain, key: certificate.privateKey },
    routes: [{ method: 'GET', path: '/who', handle: ({ headers }) => ({ status: 200, body: String(headers.host) }) }],
  });
  cleanup.push(() => server.close());
  return { server, ca: ca.certificate };
}

function newAgent(port: number, ca: string | undefined): Agent {
  const agent = azureAgent({ local: { endpoints: { '*.vault.azure.net': `127.0.0.1:${port}` }, ca } });
  cleanup.push(() => agent.destroy());
  return agent;
}

function get(url: string, agent: Agent): Promise<{ body: string; port: number | undefined }> {
  return new Promise((resolve, reject) => {
    const call = request(url, { agent }, (response) => {
      let body = '';
      const port = response.socket.localPort;
      response.on('data', (chunk) => {
        body += chunk;
      });
      response.on('end', () => resolve({ body, port }));
    });
    call.on('error', reject);
    call.end();
  });
}

describe('the agent of all Azure clients', () => {
  it('reaches a local service under the name it has in Azure, verified as in Azure', async () => {
    const { server, ca } = await startService('plant.vault.azure.net');
    const answer = await get('https://plant.vault.azure.net/who', newAgent(server.port, ca));
    expect(answer.body).toBe('plant.vault.azure.net');
  });

  it('keeps the connection for the next call', async () => {
    const { server, ca } = await startService('plant.vault.azure.net');
    const agent = newAgent(server.port, ca);
    const first = await get('https://plant.vault.azure.net/who', agent);
    const second = await get('https://plant.vault.azure.net/who', agent);
    expect(second.port).toBe(first.port);
  });

  it('trusts no certificate of another name', async () => {
    const { server, ca } = await startService('other.vault.azure.net');
    await expect(get('https://plant.vault.azure.net/who', newAgent(server.port, ca))).rejects.toMatchObject({
      code: 'ERR_TLS_CERT_ALTNAME_INVALID',
    });
  });

  it('trusts no CA but the one it was told of', async () => {
    const { server } = await startService('plant.vault.azure.net');
    const { ca: other } = await startService('plant.vault.azure.net');
    await expect(get('https://plant.vault.azure.net/who', newAgent(server.port, other))).rejects.toThrow();
    await expect(get('https://plant.vault.azure.net/who', newAgent(server.port, undefined))).rejects.toThrow();
  });
});

describe('a local endpoint', () => {
  const endpoints = { 'a.vault.azure.net': 'own', '*.vault.azure.net': 'vaults', '*.azure.net': 'all' };

  it.each([
    ['a.vault.azure.net', 'own'],
    ['A.VAULT.azure.net', 'own'],
    ['b.vault.azure.net', 'vaults'],
    ['b.c.vault.azure.net', 'vaults'],
    ['vault.azure.net', 'all'],
    ['azure.net', undefined],
    ['evil-vault.azure.net.example', undefined],
  ])('of %s is %s', (host, expected) => {
    expect(endpointFor(endpoints, host)).toBe(expected);
  });
});
