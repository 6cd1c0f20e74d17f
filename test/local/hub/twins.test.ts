import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  createDevice,
  createEdge,
  type HubUnderTest,
  keyIn,
  refusal,
  request,
  sasToken,
  startHubUnderTest,
} from './support.ts';

let under: HubUnderTest;

beforeEach(async () => {
  under = await startHubUnderTest();
  await createDevice(under.registry, 'pump');
});

afterEach(() => under.stop());

async function raw(deviceId: string): Promise<Record<string, unknown>> {
  const { hub } = under;
  const authorization = sasToken(hub.hostname, keyIn(hub.connectionString), { policy: 'iothubowner' });
  return (await request(under, 'GET', `/twins/${deviceId}?api-version=2021-04-12`, { authorization })).json();
}

describe('azure-iothub Registry: twins', () => {
  it('reads the twin of a new device', async () => {
    const twin = await raw('pump');
    expect(twin).toMatchObject({
      deviceId: 'pump',
      etag: 'AAAAAAAAAAE=',
      status: 'enabled',
      authenticationType: 'sas',
      capabilities: { iotEdge: false },
      properties: { desired: { $version: 1 }, reported: { $version: 1 } },
    });
    expect(JSON.stringify(twin)).not.toContain('primaryKey');
  });

  it("carries the scopes of the identity, and the identity's ETag apart from its own", async () => {
    const edge = await createEdge(under.registry, 'gateway');
    const leaf = await createDevice(under.registry, 'leaf', { deviceScope: edge.deviceScope });
    expect(await raw('leaf')).toMatchObject({
      deviceScope: edge.deviceScope,
      parentScopes: [edge.deviceScope],
      deviceEtag: leaf.etag,
    });
  });

  it('merges tags and desired properties, and null removes', async () => {
    const first = await under.registry.updateTwin(
      'pump',
      { tags: { site: 'north', at: { x: 1, y: 2 } }, properties: { desired: { speed: { max: 5, min: 1 } } } },
      '*',
    );
    const etag = (first.responseBody as unknown as { etag: string }).etag;
    const patch = { tags: { at: { x: null, z: 3 } }, properties: { desired: { speed: { max: 6 } } } };
    await under.registry.updateTwin('pump', patch, etag);
    const twin = await raw('pump');
    expect(twin.tags).toEqual({ site: 'north', at: { y: 2, z: 3 } });
    expect(twin.properties).toMatchObject({ desired: { speed: { max: 6, min: 1 }, $version: 3 } });
    expect(twin.etag).toBe('AAAAAAAAAAM=');
  });

  it('keeps when each property was written and with which version', async () => {
    await under.registry.updateTwin('pump', { properties: { desired: { a: 1, b: { c: 2 } } } }, '*');
    await under.registry.updateTwin('pump', { properties: { desired: { a: 5, gone: null } } }, '*');
    const { properties } = (await raw('pump')) as { properties: { desired: { $metadata: Record<string, object> } } };
    expect(properties.desired.$metadata).toMatchObject({
      $lastUpdatedVersion: 3,
      a: { $lastUpdatedVersion: 3 },
      b: { $lastUpdatedVersion: 2, c: { $lastUpdatedVersion: 2 } },
    });
    expect(properties.desired.$metadata).not.toHaveProperty('gone');
  });

  it('refuses an ETag that is old', async () => {
    await under.registry.updateTwin('pump', { tags: { a: 1 } }, '*');
    const stale = under.registry.updateTwin('pump', { tags: { a: 2 } }, 'AAAAAAAAAAE=');
    expect(await refusal(stale)).toMatchObject({ error: 'InvalidEtagError', status: 412 });
    expect((await raw('pump')).tags).toEqual({ a: 1 });
  });

  it('refuses a device that does not exist', async () => {
    expect(await refusal(under.registry.getTwin('valve'))).toMatchObject({ error: 'DeviceNotFoundError', status: 404 });
    const update = under.registry.updateTwin('valve', { tags: {} }, '*');
    expect(await refusal(update)).toMatchObject({ status: 404, code: 'DeviceNotFound' });
  });

  it.each([
    ['a key with a dot', { tags: { 'a.b': 1 } }],
    ['a key with a dollar sign', { tags: { $a: 1 } }],
    ['a key with a space', { properties: { desired: { 'a b': 1 } } }],
    ['a text of more than 4 KB', { tags: { a: 'x'.repeat(4097) } }],
    ['tags of more than 8 KB', { tags: { a: 'x'.repeat(4000), b: 'x'.repeat(4000), c: 'x'.repeat(400) } }],
    ['more than ten levels', { tags: { a: { a: { a: { a: { a: { a: { a: { a: { a: { a: { a: 1 } } } } } } } } } } } }],
    ['reported properties', { properties: { reported: { a: 1 } } }],
    ['tags that are no object', { tags: [1] }],
  ])('refuses %s and changes nothing', async (_what, patch) => {
    expect(await refusal(under.registry.updateTwin('pump', patch, '*'))).toMatchObject({ status: 400 });
    expect(await raw('pump')).not.toHaveProperty('tags');
  });

  it('has twins of modules as well', async () => {
    await under.registry.addModule({ deviceId: 'pump', moduleId: 'filter' });
    await under.registry.updateModuleTwin('pump', 'filter', { properties: { desired: { a: 1 } } }, '*');
    const { responseBody } = await under.registry.getModuleTwin('pump', 'filter');
    expect(responseBody).toMatchObject({ deviceId: 'pump', moduleId: 'filter' });
    expect(responseBody.properties.desired).toMatchObject({ a: 1, $version: 2 });
    expect(await refusal(under.registry.getModuleTwin('pump', 'valve'))).toMatchObject({ code: 'ModuleNotFound' });
    expect(await raw('pump')).toMatchObject({ properties: { desired: { $version: 1 } } });
  });
});
