import { createHash, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { createServer } from 'node:tls';
import type { OnboardingDocument } from '../device/src/document.ts';
import type { Protocol } from '../device/src/protocol.ts';
import { openSession } from '../device/src/session.ts';
import { issue, selfSigned } from '../local/kit/certificates.ts';

/*
 * Memory of a device that reconnects for weeks: `node --expose-gc bench/device-reconnects.ts [cycles] [protocol]`. Each
 * cycle is the whole of an attempt of `run`: the probe's handshake, a new SDK client, its handshake, its goodbye. The
 * gateway proves itself and then hangs up. Prints the heap after a collection at a tenth of the way and at the end, and
 * the ratio of the two. The process ends with 1 where it grew by more than a tenth and two megabytes.
 */
const cycles = Number(process.argv[2] ?? 10_000);
const protocol = (process.argv[3] ?? 'mqtt') as Protocol;

const root = await selfSigned({ commonName: 'Bench root' });
const { chain, privateKey } = await issue(root, { commonName: 'localhost', names: ['localhost'] });
const server = createServer({ cert: chain, key: privateKey }, (socket) => {
  socket.on('error', () => {});
  // The first bytes are the client's greeting.
  socket.once('data', () => socket.destroy());
});
server.on('tlsClientError', () => {});
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const { port } = server.address() as AddressInfo;

const certificate = new X509Certificate(root.certificate);
const sha256 = createHash('sha256').update(certificate.raw).digest('hex');
const key = Buffer.alloc(32, 1).toString('base64');
const document: OnboardingDocument = {
  device: { id: 'bench', moduleId: null },
  hub: { hostname: 'hub.azure-devices.net' },
  gateway: { id: 'gateway', hostname: 'localhost', ports: { mqtt: port, amqp: port, websocket: port } },
  connectionString: `HostName=hub.azure-devices.net;DeviceId=bench;SharedAccessKey=${key};GatewayHostName=localhost:${port}`,
  expiresAt: null,
  trust: {
    sequence: 1,
    refreshHintSeconds: 3600,
    roots: [{ sha256, subject: certificate.subject, notAfter: certificate.validTo, pem: root.certificate }],
  },
};

async function heap(): Promise<number> {
  // Finalizers of sockets run after a collection, and free more.
  for (let round = 0; round < 4; round += 1) {
    globalThis.gc?.();
    await sleep(50);
  }
  return process.memoryUsage().heapUsed;
}

const megabytes = (bytes: number) => Number((bytes / 2 ** 20).toFixed(1));
const begun = performance.now();
let early = 0;
let refused = 0;
for (let cycle = 1; cycle <= cycles; cycle += 1) {
  await openSession({ document, protocol, sdkRetries: false }).then(
    (session) => session.close(),
    () => {
      refused += 1;
    },
  );
  if (cycle === Math.ceil(cycles / 10)) early = await heap();
}
const late = await heap();
const seconds = (performance.now() - begun) / 1000;
const result = {
  protocol,
  cycles,
  refused,
  heapAtATenthMb: megabytes(early),
  heapAtTheEndMb: megabytes(late),
  ratio: Number((late / early).toFixed(3)),
  residentMb: megabytes(process.memoryUsage().rss),
  seconds: Number(seconds.toFixed(1)),
};
console.log(JSON.stringify(result));
server.close();
process.exit(late > early * 1.1 + 2 * 2 ** 20 ? 1 : 0);
