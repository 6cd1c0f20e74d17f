import { type AddressInfo, createServer as createPlainServer, type Server } from 'node:net';
import { createServer } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { probeGateway } from '../../device/src/probe.ts';
import { issue, selfSigned } from '../../local/kit/certificates.ts';
import { gatewayPki, trustedRoot } from './support.ts';

const day = 86_400_000;

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

async function serve(tls: { chain: string; privateKey: string }): Promise<{ port: number; received: Buffer[] }> {
  const received: Buffer[] = [];
  const server = createServer({ cert: tls.chain, key: tls.privateKey }, (socket) => {
    socket.on('data', (data) => received.push(data));
    socket.on('error', () => {});
  });
  server.on('tlsClientError', () => {});
  return { port: await listen(server), received };
}

test('a gateway whose chain ends in a trusted root is proven, and nothing is sent to it', async () => {
  const { root, server } = await gatewayPki();
  const other = await gatewayPki();
  const { port, received } = await serve(server);
  const roots = other.root.certificate + root.certificate;
  const peer = await probeGateway({ host: 'localhost', port, roots });
  expect(peer).toMatchObject({
    address: `127.0.0.1:${port}`,
    rootSha256: trustedRoot(root.certificate).sha256,
    certificate: { subject: 'CN=localhost', sha256: trustedRoot(server.certificate).sha256 },
  });
  expect(received).toEqual([]);
});

test('a gateway that sends its root along is proven by ours, not by that one', async () => {
  const { root, server } = await gatewayPki();
  const { port } = await serve({ ...server, chain: server.chain + root.certificate });
  await probeGateway({ host: 'localhost', port, roots: root.certificate });
  const stranger = await gatewayPki();
  const probing = probeGateway({ host: 'localhost', port, roots: stranger.root.certificate });
  await expect(probing).rejects.toMatchObject({ code: 'chain_untrusted', exitCode: 5 });
});

test('another root is untrusted, and the message names who signed and who is trusted', async () => {
  const { server } = await gatewayPki();
  const trusted = await selfSigned({ commonName: 'The trusted one' });
  const { port } = await serve(server);
  await expect(probeGateway({ host: 'localhost', port, roots: trusted.certificate })).rejects.toMatchObject({
    code: 'chain_untrusted',
    message: expect.stringMatching(/ends in "CN=Root \w+".*Trusted here: "CN=The trusted one"/),
  });
});

test('an impostor root of the same name is untrusted', async () => {
  const real = await selfSigned({ commonName: 'Contoso root' });
  const fake = await selfSigned({ commonName: 'Contoso root' });
  const { port } = await serve(await issue(fake, { commonName: 'localhost', names: ['localhost'] }));
  const probing = probeGateway({ host: 'localhost', port, roots: real.certificate });
  await expect(probing).rejects.toMatchObject({ exitCode: 5 });
});

test('an intermediate as the only trust is named as such', async () => {
  const { edgeCa, server } = await gatewayPki();
  const { port } = await serve(server);
  const probing = probeGateway({ host: 'localhost', port, roots: edgeCa.certificate });
  await expect(probing).rejects.toMatchObject({ code: 'root_not_anchor', exitCode: 5 });
});

test('a gateway that sends only its own certificate is named as such', async () => {
  const { root, server } = await gatewayPki();
  const { port } = await serve({ ...server, chain: server.certificate });
  await expect(probeGateway({ host: 'localhost', port, roots: root.certificate })).rejects.toMatchObject({
    code: 'chain_incomplete',
    message: expect.stringMatching(/sends only its own certificate, signed by "CN=Edge CA"/),
  });
});

test('a self-signed gateway is untrusted', async () => {
  const { root } = await gatewayPki();
  const { port } = await serve(await selfSigned({ commonName: 'localhost', names: ['localhost'], ca: false }));
  const probing = probeGateway({ host: 'localhost', port, roots: root.certificate });
  await expect(probing).rejects.toMatchObject({ code: 'chain_untrusted' });
});

test('another host name is refused with the names that the certificate has', async () => {
  const { root, server } = await gatewayPki({ names: ['gw.example', '10.0.0.4'] });
  const { port } = await serve(server);
  await expect(probeGateway({ host: 'localhost', port, roots: root.certificate })).rejects.toMatchObject({
    code: 'host_name_mismatch',
    exitCode: 6,
    message: expect.stringMatching(/is for gw.example, 10.0.0.4, not for localhost/),
  });
});

test('a gateway that is addressed by IP needs the IP in its certificate', async () => {
  const named = await gatewayPki({ names: ['localhost'] });
  const { port } = await serve(named.server);
  const probing = probeGateway({ host: '127.0.0.1', port, roots: named.root.certificate });
  await expect(probing).rejects.toMatchObject({ code: 'host_name_mismatch' });
  const numbered = await gatewayPki({ names: ['127.0.0.1'] });
  const served = await serve(numbered.server);
  await probeGateway({ host: '127.0.0.1', port: served.port, roots: numbered.root.certificate });
});

test.each([
  [
    'expired',
    { notBefore: new Date(Date.now() - 10 * day), notAfter: new Date(Date.now() - day) },
    'certificate_expired',
  ],
  [
    'not yet valid',
    { notBefore: new Date(Date.now() + day), notAfter: new Date(Date.now() + 9 * day) },
    'certificate_not_yet_valid',
  ],
])('a certificate that is %s is told with both times, the clock first', async (_name, times, code) => {
  const { root, server } = await gatewayPki(times);
  const { port } = await serve(server);
  await expect(probeGateway({ host: 'localhost', port, roots: root.certificate })).rejects.toMatchObject({
    code,
    exitCode: 7,
    message: expect.stringMatching(/"CN=localhost".*clock of this device says 20.*Check the clock first/),
  });
});

test('a root that has expired is the one that is named, and not the gateway', async () => {
  const old = await selfSigned({
    commonName: 'Old root',
    notBefore: new Date(Date.now() - 10 * day),
    notAfter: new Date(Date.now() - day),
  });
  const { port } = await serve(await issue(old, { commonName: 'localhost', names: ['localhost'] }));
  await expect(probeGateway({ host: 'localhost', port, roots: old.certificate })).rejects.toMatchObject({
    code: 'certificate_expired',
    message: expect.stringMatching(/"CN=Old root" expired at/),
  });
});

test('a port where nobody listens, a name that nobody knows, a server without TLS and one that is silent are told apart', async () => {
  const { root } = await gatewayPki();
  const roots = root.certificate;
  const closed = createPlainServer();
  const gone = await new Promise<number>((resolve) =>
    closed.listen(0, '127.0.0.1', () => {
      const { port } = closed.address() as AddressInfo;
      closed.close(() => resolve(port));
    }),
  );
  await expect(probeGateway({ host: 'localhost', port: gone, roots })).rejects.toMatchObject({
    code: 'gateway_unreachable',
    exitCode: 8,
  });
  await expect(probeGateway({ host: 'no-such-gateway.invalid', port: 8883, roots })).rejects.toMatchObject({
    code: 'gateway_not_found',
    exitCode: 8,
  });
  const plain = await listen(createPlainServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')));
  await expect(probeGateway({ host: 'localhost', port: plain, roots })).rejects.toMatchObject({
    code: 'gateway_not_tls',
    exitCode: 8,
  });
  const hangUp = await listen(createPlainServer((socket) => socket.destroy()));
  await expect(probeGateway({ host: 'localhost', port: hangUp, roots })).rejects.toMatchObject({
    code: 'gateway_unreachable',
  });
  const silent = await listen(createPlainServer((socket) => socket.on('error', () => {})));
  await expect(probeGateway({ host: 'localhost', port: silent, roots, timeoutMs: 50 })).rejects.toMatchObject({
    code: 'gateway_unreachable',
    message: expect.stringMatching(/no TLS handshake within/),
  });
});
