import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FaultSwitch } from '../../../local/kit/faults.ts';
import { type RunningServer, serveHttps } from '../../../local/kit/https-server.ts';

let server: RunningServer;
const faults = new FaultSwitch();

beforeAll(async () => {
  const routes = [
    {
      method: 'GET',
      path: '/devices/{id}',
      handle: ({ params }: { params: object }) => ({ status: 200, body: params }),
    },
  ];
  server = await serveHttps({ target: 'hub', faults, routes });
});

afterAll(() => server.close());

function get(path: string): Promise<{ status: number | undefined; retryAfter: string | undefined; text: string }> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port: server.port, path }, async (answer) => {
      let text = '';
      for await (const chunk of answer) text += chunk;
      resolve({ status: answer.statusCode, retryAfter: answer.headers['retry-after'], text });
    });
    sent.on('error', reject);
    sent.end();
  });
}

describe('the server of a double', () => {
  it('decodes the variables of a path', async () => {
    expect(await get('/devices/a%20b')).toMatchObject({ status: 200, text: '{"id":"a b"}' });
  });

  it('refuses a path with a broken escape, and goes on', async () => {
    expect(await get('/devices/100%')).toMatchObject({ status: 400, text: '' });
    expect((await get('/devices/leaf')).status).toBe(200);
  });

  it('answers a status fault with its Retry-After and no more often than asked', async () => {
    faults.add({ target: 'hub', fault: { status: 429, retryAfter: 2 }, times: 1 });
    expect(await get('/devices/leaf')).toMatchObject({ status: 429, retryAfter: '2' });
    expect((await get('/devices/leaf')).status).toBe(200);
  });
});
