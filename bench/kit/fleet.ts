import { type LocalCloud, startCloud } from '../../local/cloud.ts';

export const deviceId = 'bench-device';
export const moduleId = 'bench-module';
export const rootName = 'bench-root';

/** Calls are counted as ever, but a bench makes more of them in a minute than a device may. */
const highLimits = {
  GATEPOST_LIMIT_DEVICE_PER_MINUTE: '1000000',
  GATEPOST_LIMIT_CALLER_PER_MINUTE: '1000000',
  GATEPOST_LIMIT_JOIN_PER_MINUTE: '1000000',
};

/** A cloud with a root, a gateway and a device with a module behind it. */
export async function startFleet(): Promise<LocalCloud & { gatewayId: string }> {
  const cloud = await startCloud({ gateways: 1, apiEnv: highLimits });
  try {
    const [gateway] = cloud.gateways;
    if (gateway === undefined) throw new Error('The cloud has no gateway.');
    const call = caller(cloud);
    await call('POST', '/api/v1/roots', { name: rootName, pem: gateway.root });
    await call('PUT', `/api/v1/gateways/${gateway.id}`, { hostname: gateway.hostname });
    await call('POST', `/api/v1/devices/${deviceId}/onboard`, { gateway: gateway.id, modules: [moduleId] });
    return Object.assign(cloud, { gatewayId: gateway.id });
  } catch (error) {
    await cloud.close();
    throw error;
  }
}

export type Call = (method: string, path: string, body?: object, headers?: Record<string, string>) => Promise<unknown>;

/** Calls the API as the operator, unless `headers` say who calls. Throws what it refuses. */
export function caller(cloud: LocalCloud): Call {
  return async (method, path, body, headers = { authorization: `Bearer ${cloud.operatorToken}` }) => {
    const response = await fetch(`${cloud.api}${path}`, {
      method,
      headers: { ...headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path} answered ${response.status} ${text}`);
    return response.headers.get('content-type')?.includes('json') ? JSON.parse(text) : text;
  };
}
