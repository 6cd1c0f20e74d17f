import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { gatewayPki, startBroker } from '../support.ts';
import { act, alpineMachine, newRoot } from './machines.ts';

test('a handshake that trusts only what was read back from the store proves the gateway', async () => {
  const pki = await gatewayPki();
  const { port } = await startBroker(pki);
  const machine = alpineMachine();
  const root = machine.write('root.pem', pki.root.certificate);
  const { code, out, err } = await act('install', machine, { root, gateway: `localhost:${port}` });
  expect({ code, err }).toEqual({ code: 0, err: [] });
  expect(out).toContain(
    `proven: localhost:${port} by Node with what was read back from ${join(machine.root, 'etc/ssl/certs/ca-certificates.crt')}`,
  );
});

test('a gateway of another root is not proven, however many roots the store holds, and only ours are named', async () => {
  const { port } = await startBroker(await gatewayPki());
  const machine = alpineMachine();
  for (let number = 0; number < 3; number += 1) {
    const other = await newRoot(`Public root ${number}`);
    machine.write(`usr/local/share/ca-certificates/public-${number}.crt`, other);
  }
  const root = machine.write('root.pem', await newRoot('Contoso root'));
  const failed = act('install', machine, { root, gateway: `localhost:${port}` });
  await expect(failed).rejects.toMatchObject({
    code: 'chain_untrusted',
    exitCode: 5,
    message: expect.stringMatching(/Trusted here: "CN=Contoso root"\.$/),
  });
});

test('a gateway whose certificate is for another name is not proven', async () => {
  const pki = await gatewayPki({ commonName: 'gateway-9', names: ['gateway-9'] });
  const { port } = await startBroker(pki);
  const machine = alpineMachine();
  const root = machine.write('root.pem', pki.root.certificate);
  await expect(act('install', machine, { root, gateway: `localhost:${port}` })).rejects.toMatchObject({
    code: 'host_name_mismatch',
  });
});

test('a gateway that somebody named must answer; the root is installed all the same', async () => {
  const free = createServer();
  await new Promise<void>((resolve) => free.listen(0, '127.0.0.1', resolve));
  const { port } = free.address() as { port: number };
  await new Promise((resolve) => free.close(resolve));
  const machine = alpineMachine();
  const root = machine.write('root.pem', await newRoot('Contoso root'));
  await expect(act('install', machine, { root, gateway: `localhost:${port}` })).rejects.toMatchObject({
    code: 'gateway_unreachable',
    exitCode: 8,
  });
  expect((await act('status', machine, { root })).code).toBe(0);
});

test('a bundle of the system that holds what Node cannot parse does not hinder the proof', async () => {
  const pki = await gatewayPki();
  const { port } = await startBroker(pki);
  const machine = alpineMachine();
  const odd = '-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n';
  machine.write('usr/local/share/ca-certificates/odd.crt', odd);
  const root = join(machine.root, 'root.pem');
  writeFileSync(root, pki.root.certificate);
  const { out } = await act('install', machine, { root, gateway: `localhost:${port}` });
  expect(out.join('\n')).toContain(`proven: localhost:${port}`);
});
