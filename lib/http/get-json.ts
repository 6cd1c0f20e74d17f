import { type Agent, request } from 'node:https';

const largest = 1_048_576;

export type GetJson = (url: string) => Promise<unknown>;

/**
 * Reads JSON documents over HTTPS by way of an agent, each within `timeoutMs` from first byte sent to last byte read.
 * Follows no redirect. `fetch` would do, but it takes no agent, and so would neither reuse its sockets nor trust its CA.
 */
export function jsonReader(agent: Agent, timeoutMs: number): GetJson {
  return async (url) => {
    const { status, text } = await get(url, agent, timeoutMs);
    if (status !== 200) throw new Error(`GET ${new URL(url).hostname} answered ${status}`);
    return JSON.parse(text);
  };
}

function get(url: string, agent: Agent, timeoutMs: number): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(timeoutMs);
    const call = request(url, { agent, signal, headers: { accept: 'application/json' } }, (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        size += chunk.byteLength;
        if (size > largest) call.destroy(new Error('The answer is too large'));
      });
      response.on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
    });
    call.on('error', reject);
    call.end();
  });
}
