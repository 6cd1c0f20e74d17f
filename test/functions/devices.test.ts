import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { newId, startTestCloud, type TestCloud } from '../support/cloud.ts';
import { asHubOwner } from '../support/hub-owner.ts';

let test: TestCloud;
let gateway: string;

beforeAll(async () => {
  test = await startTestCloud({ apiEnv: { GATEPOST_UPSTREAM_TIMEOUT_MS: '2000' } });
  gateway = await test.newGateway();
});

afterEach(() => test.cloud.faults.clear());

afterAll(() => test?.close());

const put = (id: string, json: Record<string, unknown> = {}, headers = {}) =>
  test.call('PUT', `/api/v1/devices/${id}`, { json: { gateway, ...json }, headers });
const outcome = (id: string, json: Record<string, unknown> = {}, headers = {}) =>
  test.outcome('PUT', `/api/v1/devices/${id}`, { json: { gateway, ...json }, headers });

describe('PUT /devices/{id}', () => {
  it('costs the hub one write for a new device behind a gateway that is remembered, and one read for a repeat', async () => {
    await put(newId());
    const id = newId();
    test.hubCalls();
    const first = await put(id);
    expect(test.hubCalls()).toEqual({ 'PUT /devices/{id}': 1 });
    const second = await put(id);
    expect(test.hubCalls()).toEqual({ 'GET /twins/{id}': 1 });
    expect([first.status, second.status]).toEqual([201, 200]);
    expect(second.json).toEqual(first.json);
    expect(second.headers.get('etag')).toBe(first.headers.get('etag'));
  });

  it('answers with the device and never with a key', async () => {
    const id = newId();
    const { json, text } = await put(id, { tags: { line: 4 } });
    expect(json).toEqual({
      id,
      gateway,
      auth: { type: 'sas' },
      enabled: true,
      tags: { line: 4 },
      connection: { state: 'disconnected', lastActivity: null },
    });
    expect(text).not.toMatch(/key/i);
  });

  it.each(['-a', 'a b', '%24a', 'a%2Bb', 'x'.repeat(129), 'a%2Fb'])('refuses the id %s', async (id) => {
    expect(await outcome(id)).toMatch(/^400 invalid_request$/);
  });

  it('takes an id of 128 characters and of every kind that is allowed', async () => {
    expect(await outcome(`${newId('A.b_c:d-9')}${'x'.repeat(128)}`.slice(0, 128))).toBe('201');
  });

  it.each([
    [{ gateway: undefined }, '/gateway'],
    [{ gateway: 'a b' }, '/gateway'],
    [{ auth: { type: 'password' } }, '/auth/type'],
    [{ auth: { type: 'selfSigned' } }, '/auth/primaryThumbprint'],
    [{ auth: { type: 'selfSigned', primaryThumbprint: 'ab:cd' } }, '/auth/primaryThumbprint'],
    [{ auth: { type: 'sas', primaryKey: 'c2VjcmV0' } }, '/auth/primaryKey'],
    [{ enabled: 'yes' }, '/enabled'],
    [{ tags: { gatepost: {} } }, '/tags/gatepost'],
    [{ tags: { 'a.b': 1 } }, '/tags/a.b'],
    [{ colour: 'red' }, '/colour'],
  ])('refuses %j and points at %s', async (json, pointer) => {
    const answer = await put(newId(), json);
    expect(answer).toMatchObject({ status: 400, json: { code: 'invalid_request', errors: [{ pointer }] } });
  });

  it('refuses a gateway that is unknown, a device, disabled or full', async () => {
    const device = newId();
    await put(device);
    const disabled = await test.newGateway({ enabled: false });
    const full = await test.newGateway({ maxDevices: 1 });
    await put(newId(), { gateway: full });
    expect(await outcome(newId(), { gateway: 'nobody' })).toBe('404 gateway_not_found');
    expect(await outcome(newId(), { gateway: device })).toBe('409 gateway_not_edge');
    expect(await outcome(newId(), { gateway: disabled })).toBe('409 gateway_disabled');
    expect(await outcome(newId(), { gateway: full })).toBe('409 gateway_full');
    expect(await outcome(gateway)).toBe('409 device_is_gateway');
  });

  it('moves a device to another gateway and disables it', async () => {
    const id = newId();
    await put(id);
    const other = await test.newGateway();
    expect((await put(id, { gateway: other, enabled: false })).json).toMatchObject({ gateway: other, enabled: false });
    expect((await test.call('GET', `/api/v1/devices/${id}`)).json).toMatchObject({ gateway: other, enabled: false });
  });

  it('honours If-Match and If-None-Match', async () => {
    const id = newId();
    const { headers } = await put(id, {}, { 'if-none-match': '*' });
    const etag = headers.get('etag') ?? '';
    expect(await outcome(id, {}, { 'if-none-match': '*' })).toBe('412 precondition_failed');
    expect(await outcome(id, { enabled: false }, { 'if-match': etag })).toBe('200');
    expect(await outcome(id, { enabled: true }, { 'if-match': etag })).toBe('412 precondition_failed');
  });

  it('finds out that a gateway it remembers was deleted or made anew behind its back', async () => {
    const id = await test.newGateway();
    await put(newId(), { gateway: id });
    const { hub } = test.cloud;
    expect((await asHubOwner(hub, 'DELETE', `/devices/${id}`)).status).toBe(204);
    expect(await outcome(newId(), { gateway: id })).toBe('404 gateway_not_found');
    const anew = { deviceId: id, capabilities: { iotEdge: true } };
    expect((await asHubOwner(hub, 'PUT', `/devices/${id}`, anew)).status).toBe(200);
    expect(await outcome(newId(), { gateway: id })).toBe('409 gateway_not_configured');
  });
});

describe('GET and DELETE /devices', () => {
  it('read, list and delete devices and no gateways', async () => {
    const home = await test.newGateway();
    const id = newId();
    const { headers, json } = await put(id, { gateway: home });
    const read = await test.call('GET', `/api/v1/devices/${id}`);
    expect([read.json, read.headers.get('etag')]).toEqual([json, headers.get('etag')]);
    const list = await test.call('GET', `/api/v1/devices?gateway=${home}`);
    expect(list.json).toEqual({ value: [json] });
    expect(await test.outcome('GET', `/api/v1/devices/${home}`)).toBe('404 device_not_found');
    expect(await test.outcome('DELETE', `/api/v1/devices/${home}`)).toBe('409 device_is_gateway');
    expect(await test.outcome('DELETE', `/api/v1/devices/${id}`, { headers: { 'if-match': '"other"' } })).toBe(
      '412 precondition_failed',
    );
    expect(await test.outcome('DELETE', `/api/v1/devices/${id}`)).toBe('204');
    expect(await test.outcome('GET', `/api/v1/devices/${id}`)).toBe('404 device_not_found');
    expect(await test.outcome('DELETE', `/api/v1/devices/${id}`)).toBe('404 device_not_found');
    expect(await test.outcome('GET', '/api/v1/devices?gateway=nobody')).toBe('404 gateway_not_found');
  });

  it('a device that was deleted is made anew by the next PUT', async () => {
    const id = newId();
    await put(id);
    await test.call('DELETE', `/api/v1/devices/${id}`);
    expect(await outcome(id)).toBe('201');
  });

  it('need a role', async () => {
    const id = newId();
    await put(id);
    const reader = await test.tokenWith('Fleet.Read');
    expect(await test.outcome('GET', `/api/v1/devices/${id}`, { authorization: reader })).toBe('200');
    expect(await test.outcome('DELETE', `/api/v1/devices/${id}`, { authorization: reader })).toBe('403 role_missing');
    expect(await test.outcome('GET', `/api/v1/devices/${id}`, { authorization: null })).toBe('401 token_missing');
  });
});

describe('when the answer of the hub is lost', () => {
  it.each(['PUT', 'PATCH'])('after a %s, the device is put all the same', async (method) => {
    test.cloud.faults.add({ target: 'hub', match: { method }, fault: { cut: 'after' }, times: 1 });
    const id = newId();
    expect((await put(id, { tags: { line: 4 } })).json).toMatchObject({ id, gateway, tags: { line: 4 } });
  });
});
