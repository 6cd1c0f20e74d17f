import { type GetJson, jsonReader } from '../lib/http/get-json.ts';
import type { Authenticator } from '../lib/http/route.ts';
import { observeCall } from '../lib/telemetry/upstream-span.ts';
import { lazily, type Services } from './services.ts';

/** A caller waits for this at most once: the keys are kept. */
const tokenCheckTimeoutMs = 5_000;

/** Chooses the proof that a route's plane asks for. */
export function authenticator(services: Services): Authenticator {
  const operator = lazily(async () => {
    const { operatorTokens } = await import('../lib/http/operator-token.ts');
    const { config, agent, clock } = services;
    const read = jsonReader(agent, Math.min(config.upstreamTimeoutMs, tokenCheckTimeoutMs));
    const getJson: GetJson = (url) => observeCall('Entra ID', 'read the keys of the tenant', () => read(url));
    return operatorTokens({ ...config.entra, getJson, clock });
  });
  const device = lazily(async () => {
    const { deviceTokens } = await import('../lib/http/device-token.ts');
    return deviceTokens({
      hubHostname: services.config.hubHostname,
      clock: services.clock,
      deviceKeys: services.deviceKeys,
    });
  });
  return async (access, request) => {
    switch (access.plane) {
      case 'public':
        return { plane: 'public' };
      case 'join':
        return { plane: 'join' };
      case 'operator':
        return (await operator())(access.roles, request);
      case 'device':
        return (await device())(request, access.modules);
    }
  };
}
