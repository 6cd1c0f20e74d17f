import { type Agent, request } from 'node:https';

/**
 * Whether a service of ours can be reached over TLS and is not failing. It sends no credential, so the service may well
 * answer 401: that costs nothing of a quota, such as the hub's 100 registry operations a minute, and shows all it should.
 */
export function probeHost(hostname: string, agent: Agent, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(timeoutMs);
    const call = request({ hostname, path: '/', agent, signal }, (response) => {
      response.resume();
      const { statusCode = 0 } = response;
      if (statusCode >= 500) reject(new Error(`${hostname} answered ${statusCode}`));
      else resolve();
    });
    call.on('error', reject);
    call.end();
  });
}
