import { Agent, request } from 'node:http';
import type { Load, LoadAnswer } from './load.ts';

/** One GET; rejects any answer that is not a success, since a refusal is cheap to give. */
function get({ url, headers }: Load, agent: Agent): Promise<void> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { agent, headers }, (response) => {
      const status = response.statusCode ?? 0;
      response.resume();
      response.once('error', reject);
      response.once('end', () => (status < 300 ? resolve() : reject(new Error(`status ${status}`))));
    });
    sent.once('error', reject);
    sent.end();
  });
}

async function run(load: Load): Promise<number> {
  const agent = new Agent({ keepAlive: true, maxSockets: load.connections });
  const deadline = performance.now() + load.seconds * 1000;
  let count = 0;
  const begun = performance.now();
  const lane = async () => {
    while (performance.now() < deadline) {
      await get(load, agent);
      count += 1;
    }
  };
  await Promise.all(Array.from({ length: load.connections }, lane));
  agent.destroy();
  return count / ((performance.now() - begun) / 1000);
}

process.on('message', (load: Load) => {
  run(load).then(
    (perSecond) => process.send?.({ perSecond } satisfies LoadAnswer),
    (error: Error) => process.send?.({ error: error.message } satisfies LoadAnswer),
  );
});
