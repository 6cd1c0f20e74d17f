import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { selfSigned } from '../../local/kit/certificates.ts';
import { expectStatus, type Site, sendTheDocumentedWay, startSite, telemetryFrom } from './support.ts';

let site: Site;

beforeAll(async () => {
  site = await startSite();
});

afterAll(() => site?.cloud.close());

async function onboard(id: string, body: object = {}) {
  const { operator, gateway } = site;
  return expectStatus(await operator('POST', `/devices/${id}/onboard`, { gateway: gateway.id, ...body }), 201).body;
}

describe("a plain azure-iot-device client with nothing but the connection string and the root's PEM", () => {
  it('sends telemetry that arrives by way of the gateway', async () => {
    const { connectionString, trust } = await onboard('plain-1');
    await sendTheDocumentedWay(connectionString, trust.roots[0].pem, { temperature: 21.5 });
    expect(await telemetryFrom(site.cloud, 'plain-1')).toEqual([
      { body: { temperature: 21.5 }, gatewayId: site.gateway.id, moduleId: null },
    ]);
  });

  it('takes the public trust bundle as its roots', async () => {
    const { connectionString } = await onboard('plain-2');
    const { body: pem } = await site.operator('GET', '/trust-bundle');
    await sendTheDocumentedWay(connectionString, pem, { n: 2 });
    expect(await telemetryFrom(site.cloud, 'plain-2')).toHaveLength(1);
  });

  it('sends as a device of which only the secondary key was issued', async () => {
    await onboard('plain-3');
    const request = { credential: 'key', key: 'secondary' };
    const issued = expectStatus(await site.operator('POST', '/devices/plain-3/connection-string', request), 200);
    await sendTheDocumentedWay(issued.body.connectionString, site.gateway.root, { n: 3 });
    expect(await telemetryFrom(site.cloud, 'plain-3')).toHaveLength(1);
  });

  it('refuses a gateway whose root it was not given', async () => {
    const { connectionString } = await onboard('plain-4');
    const { certificate } = await selfSigned({ commonName: 'Another root' });
    await expect(sendTheDocumentedWay(connectionString, certificate, { n: 4 })).rejects.toThrow();
    expect(site.cloud.hub.received().filter(({ deviceId }) => deviceId === 'plain-4')).toEqual([]);
  });

  it('is refused by the gateway with a key that is not its own', async () => {
    const mine = (await onboard('plain-5')).connectionString as string;
    const other = (await onboard('plain-6')).connectionString as string;
    const stolen = mine.replace(/SharedAccessKey=[^;]+/, /SharedAccessKey=[^;]+/.exec(other)?.[0] ?? '');
    expect(stolen).not.toBe(mine);
    await expect(sendTheDocumentedWay(stolen, site.gateway.root, { n: 5 })).rejects.toThrow();
  });
});

const hasOpenssl = spawnSync('openssl', ['version']).status === 0;

describe.skipIf(!hasOpenssl)(
  'openssl s_client with the issued root (skipped where this machine has no openssl)',
  () => {
    let folder: string;

    beforeAll(() => {
      folder = mkdtempSync(join(tmpdir(), 'gatepost-openssl-'));
    });

    afterAll(() => rmSync(folder, { recursive: true, force: true }));

    // Not spawnSync: the gateway answers in this process.
    function connect(pem: string, hostname: string): Promise<{ code: number | null; output: string }> {
      const file = join(folder, 'root.pem');
      writeFileSync(file, pem);
      const address = `localhost:${site.gateway.ports.mqtt}`;
      const parameters = ['s_client', '-connect', address, '-CAfile', file, '-verify_hostname', hostname];
      const only = ['-no-CApath', '-no-CAstore', '-verify_return_error', '-brief'];
      const child = spawn('openssl', [...parameters, ...only], { stdio: ['pipe', 'pipe', 'pipe'] });
      child.stdin.end();
      let output = '';
      for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
      return new Promise((resolve) => child.once('close', (code) => resolve({ code, output })));
    }

    async function issuedRoot(): Promise<string> {
      return (await site.operator('GET', '/trust-bundle')).body;
    }

    it("verifies the gateway's chain and its host name", async () => {
      const { code, output } = await connect(await issuedRoot(), 'localhost');
      expect(output).toContain('Verification: OK');
      expect(output).toContain('Verified peername: localhost');
      expect(code).toBe(0);
    });

    it('does not verify another host name', async () => {
      const { code, output } = await connect(await issuedRoot(), 'gateway.example.com');
      expect(output).toContain('hostname mismatch');
      expect(code).not.toBe(0);
    });

    it('does not verify the chain by another root', async () => {
      const { code, output } = await connect(
        (await selfSigned({ commonName: 'Another root' })).certificate,
        'localhost',
      );
      expect(output).toMatch(/unable to get local issuer certificate/);
      expect(code).not.toBe(0);
    });
  },
);
