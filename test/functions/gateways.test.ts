import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { newId, startTestCloud, type TestCloud } from '../support/cloud.ts';

let test: TestCloud;

beforeAll(async () => {
  test = await startTestCloud({ apiEnv: { GATEPOST_UPSTREAM_TIMEOUT_MS: '2000' } });
});

afterEach(() => test.cloud.faults.clear());

afterAll(() => test?.close());

const hostname = 'gw.example.com';
const put = (id: string, json: unknown, headers = {}) =>
  test.outcome('PUT', `/api/v1/gateways/${id}`, { json, headers });

describe('PUT /gateways/{id}', () => {
  it('answers 201 with the gateway and its ETag, then 200 with the same', async () => {
    const id = newId('gateway');
    const first = await test.call('PUT', `/api/v1/gateways/${id}`, { json: { hostname } });
    expect(first.status).toBe(201);
    expect(first.json).toMatchObject({ id, hostname, parent: null, maxDevices: 100, enabled: true, devices: 0 });
    expect(first.headers.get('etag')).toMatch(/^"[\w-]+"$/);
    const second = await test.call('PUT', `/api/v1/gateways/${id}`, { json: { hostname } });
    expect([second.status, second.json]).toEqual([200, first.json]);
    expect(second.headers.get('etag')).toBe(first.headers.get('etag'));
    expect(first.text).not.toMatch(/key/i);
  });

  it.each([
    ['-gateway', { hostname }],
    ['%24edgeAgent', { hostname }],
    ['a b', { hostname }],
    ['a%3Bb', { hostname }],
    ['x'.repeat(129), { hostname }],
  ])('refuses the id %s', async (id, json) => {
    expect(await put(id, json)).toBe('400 invalid_request');
  });

  it.each([
    ['with an underscore', 'gate_way.example.com'],
    ['with capitals', 'Gateway.example.com'],
    ['of 65 characters', `${'a'.repeat(32)}.${'b'.repeat(32)}`],
    ['that is empty', ''],
  ])('refuses a host name %s, and points at it', async (_what, name) => {
    const answer = await test.call('PUT', `/api/v1/gateways/${newId()}`, { json: { hostname: name } });
    expect(answer).toMatchObject({
      status: 400,
      json: { code: 'invalid_request', errors: [{ pointer: '/hostname' }] },
    });
  });

  it('allows an address as the host name and warns of it', async () => {
    const answer = await test.call('PUT', `/api/v1/gateways/${newId('gateway')}`, { json: { hostname: '10.0.0.4' } });
    expect(answer.status).toBe(201);
    expect(answer.json.warnings).toEqual([{ code: 'hostname_is_address', detail: expect.any(String) }]);
  });

  it('refuses fields that it does not know, and points at them', async () => {
    const answer = await test.call('PUT', `/api/v1/gateways/${newId()}`, { json: { hostname, colour: 'red' } });
    expect(answer).toMatchObject({ status: 400, json: { code: 'invalid_request', errors: [{ pointer: '/colour' }] } });
  });

  it('refuses what is no JSON, another content type, and a body that is missing', async () => {
    const path = `/api/v1/gateways/${newId()}`;
    expect(await test.outcome('PUT', path, { json: { hostname }, headers: { 'content-type': 'text/plain' } })).toBe(
      '415 unsupported_media_type',
    );
    expect(await test.outcome('PUT', path, { headers: { 'content-type': 'application/json' } })).toMatch(/^4/);
  });

  it('refuses an id of a device, an unknown parent, a cycle and a sixth layer', async () => {
    const top = await test.newGateway();
    const device = newId();
    await test.call('PUT', `/api/v1/devices/${device}`, { json: { gateway: top } });
    expect(await put(device, { hostname })).toBe('409 gateway_not_edge');
    expect(await put(newId(), { hostname, parent: 'nobody' })).toBe('404 gateway_not_found');
    expect(await put(newId(), { hostname, parent: device })).toBe('409 gateway_not_edge');
    const second = await test.newGateway({ parent: top });
    expect(await put(top, { hostname, parent: second })).toBe('409 gateway_cycle');
    const third = await test.newGateway({ parent: second });
    const fourth = await test.newGateway({ parent: third });
    const fifth = await test.newGateway({ parent: fourth });
    expect(await put(newId(), { hostname, parent: fifth })).toBe('409 gateway_too_deep');
  });

  it('honours If-Match', async () => {
    const id = newId('gateway');
    const { headers } = await test.call('PUT', `/api/v1/gateways/${id}`, { json: { hostname } });
    const etag = headers.get('etag') ?? '';
    expect(await put(id, { hostname, maxDevices: 5 }, { 'if-match': etag })).toBe('200');
    expect(await put(id, { hostname, maxDevices: 6 }, { 'if-match': etag })).toBe('412 precondition_failed');
    expect(await put(newId(), { hostname }, { 'if-match': '*' })).toBe('412 precondition_failed');
  });
});

describe('GET /gateways', () => {
  it('reads one with its count and ETag, and answers 304 to the tag', async () => {
    const id = await test.newGateway();
    await test.call('PUT', `/api/v1/devices/${newId()}`, { json: { gateway: id } });
    const read = await test.call('GET', `/api/v1/gateways/${id}`);
    expect(read.json).toMatchObject({ id, devices: 1 });
    const etag = read.headers.get('etag') ?? '';
    expect((await test.call('GET', `/api/v1/gateways/${id}`, { headers: { 'if-none-match': etag } })).status).toBe(304);
    expect(await test.outcome('GET', '/api/v1/gateways/nobody')).toBe('404 gateway_not_found');
  });

  it('lists them page by page through nextLink', async () => {
    const made = [await test.newGateway(), await test.newGateway(), await test.newGateway()];
    const found: string[] = [];
    let next: string | undefined = '/api/v1/gateways?pageSize=2';
    while (next !== undefined) {
      const page = await test.call('GET', next);
      expect(page.status).toBe(200);
      expect(page.json.value.length).toBeLessThanOrEqual(2);
      found.push(...page.json.value.map((each: { id: string }) => each.id));
      next = page.json.nextLink;
    }
    expect(found).toEqual(expect.arrayContaining(made));
    expect(new Set(found).size).toBe(found.length);
  });

  it.each(['pageSize=0', 'pageSize=1001', 'pageSize=x', 'continuation=abc', 'colour=red'])(
    'refuses ?%s',
    async (query) => {
      expect(await test.outcome('GET', `/api/v1/gateways?${query}`)).toBe('400 invalid_request');
    },
  );

  it('lists the devices behind one, and refuses the continuation of another list', async () => {
    const [one, other] = [await test.newGateway(), await test.newGateway()];
    const ids = [newId(), newId()];
    for (const id of ids) await test.call('PUT', `/api/v1/devices/${id}`, { json: { gateway: one } });
    const page = await test.call('GET', `/api/v1/gateways/${one}/devices?pageSize=1`);
    const rest = await test.call('GET', page.json.nextLink);
    const found = [...page.json.value, ...rest.json.value].map((each: { id: string }) => each.id);
    expect(found.sort()).toEqual(ids.sort());
    expect(rest.json.nextLink).toBeUndefined();
    const token = new URL(page.json.nextLink).searchParams.get('continuation');
    const foreign = `/api/v1/gateways/${other}/devices?pageSize=1&continuation=${token}`;
    expect(await test.outcome('GET', foreign)).toBe('400 invalid_request');
    expect(await test.outcome('GET', '/api/v1/gateways/nobody/devices')).toBe('404 gateway_not_found');
  });
});

describe('DELETE /gateways/{id}', () => {
  it('is refused while something stands behind it, unless ?orphan=true', async () => {
    const id = await test.newGateway();
    await test.call('PUT', `/api/v1/devices/${newId()}`, { json: { gateway: id } });
    expect(await test.outcome('DELETE', `/api/v1/gateways/${id}`)).toBe('409 gateway_has_children');
    expect(await test.outcome('DELETE', `/api/v1/gateways/${id}?orphan=yes`)).toBe('400 invalid_request');
    expect(await test.outcome('DELETE', `/api/v1/gateways/${id}?orphan=true`)).toBe('204');
    expect(await test.outcome('DELETE', `/api/v1/gateways/${id}`)).toBe('404 gateway_not_found');
  });
});

describe('who may', () => {
  it('read: Fleet.Read or Fleet.Provision; write: Fleet.Provision alone', async () => {
    const id = await test.newGateway();
    const [reader, trust, writer] = [
      await test.tokenWith('Fleet.Read'),
      await test.tokenWith('Trust.Manage', 'Credential.Issue'),
      await test.tokenWith('Fleet.Provision'),
    ];
    const as = (method: string, authorization: string | null, json?: unknown) =>
      test.outcome(method, `/api/v1/gateways/${id}`, { authorization, ...(json === undefined ? {} : { json }) });
    expect(await as('GET', reader)).toBe('200');
    expect(await as('GET', writer)).toBe('200');
    expect(await as('GET', trust)).toBe('403 role_missing');
    expect(await as('GET', null)).toBe('401 token_missing');
    expect(await as('PUT', reader, { hostname })).toBe('403 role_missing');
    expect(await as('PUT', writer, { hostname })).toBe('200');
    expect(await as('DELETE', reader)).toBe('403 role_missing');
  });
});

describe('when the hub is in trouble', () => {
  it('a gateway is put in spite of two 500s and a 429 that names a second', async () => {
    test.cloud.faults.add({ target: 'hub', match: { method: 'GET' }, fault: { status: 500 }, times: 2 });
    test.cloud.faults.add({ target: 'hub', match: { method: 'PUT' }, fault: { status: 429, retryAfter: 1 }, times: 1 });
    expect(await put(newId('gateway'), { hostname })).toBe('201');
  });

  it('a hub that hangs is a 504 with Retry-After in time, and a hub that throttles a 503 with the wait', async () => {
    test.cloud.faults.add({ target: 'hub', fault: { hang: true } });
    const started = performance.now();
    const hung = await test.call('GET', '/api/v1/gateways/any');
    expect(hung).toMatchObject({ status: 504, json: { code: 'upstream_timeout' } });
    expect(hung.headers.get('retry-after')).toMatch(/^\d+$/);
    expect(performance.now() - started).toBeLessThan(4000);
    test.cloud.faults.clear();
    test.cloud.faults.add({ target: 'hub', fault: { status: 429, retryAfter: 60 } });
    const throttled = await test.call('GET', '/api/v1/gateways/any');
    expect(throttled).toMatchObject({ status: 503, json: { code: 'upstream_throttled' } });
    expect(throttled.headers.get('retry-after')).toBe('60');
  });
});
