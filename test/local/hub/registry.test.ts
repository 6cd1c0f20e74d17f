import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createDevice, createEdge, getDevice, type HubUnderTest, startHubUnderTest } from './support.ts';

let under: HubUnderTest;

beforeEach(async () => {
  under = await startHubUnderTest();
});

afterEach(() => under.stop());

describe('azure-iothub Registry: devices', () => {
  it('creates a device with generated keys, a generation and an ETag', async () => {
    const device = await createDevice(under.registry, 'pump-1');
    const { primaryKey, secondaryKey } = device.authentication.symmetricKey;
    expect(Buffer.from(primaryKey ?? '', 'base64')).toHaveLength(32);
    expect(Buffer.from(secondaryKey ?? '', 'base64')).toHaveLength(32);
    expect(primaryKey).not.toBe(secondaryKey);
    expect(device).toMatchObject({ deviceId: 'pump-1', status: 'enabled', connectionState: 'Disconnected' });
    expect(device.generationId).toMatch(/^\d+$/);
    expect(device.etag).not.toBe('');
    expect(device).not.toHaveProperty('deviceScope');
  });
});
