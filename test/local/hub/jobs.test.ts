import { BlobServiceClient, type ContainerClient, ContainerSASPermissions } from '@azure/storage-blob';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { FaultSwitch } from '../../../local/kit/faults.ts';
import { type Storage, startStorage } from '../../../local/storage/azurite.ts';
import { createDevice, createEdge, getDevice, type HubUnderTest, refusal, startHubUnderTest } from './support.ts';

let storage: Storage;
let under: HubUnderTest;
let container: ContainerClient;
let uri: string;
let containers = 0;
const storageFaults = new FaultSwitch();

beforeAll(async () => {
  storage = await startStorage({ faults: storageFaults });
});

afterAll(() => storage.close());

beforeEach(async () => {
  under = await startHubUnderTest();
  containers += 1;
  container = BlobServiceClient.fromConnectionString(storage.connectionString).getContainerClient(`jobs${containers}`);
  await container.create();
  const permissions = ContainerSASPermissions.parse('rwdl');
  uri = await container.generateSasUrl({ permissions, expiresOn: new Date(Date.now() + 3_600_000) });
});

afterEach(async () => {
  storageFaults.clear();
  await under.stop();
});

interface JobAnswer {
  jobId: string;
  type: string;
  status: string;
  progress: number;
  failureReason?: string;
}

async function finished(started: unknown): Promise<JobAnswer> {
  const { jobId } = started as JobAnswer;
  return vi.waitFor(
    async () => {
      const job = (await under.registry.getJob(jobId)) as unknown as JobAnswer;
      expect(job.status).not.toMatch(/enqueued|running/);
      return job;
    },
    { timeout: 10_000 },
  );
}

async function lines(name: string): Promise<Record<string, unknown>[]> {
  const text = (await container.getBlobClient(name).downloadToBuffer()).toString('utf8');
  return text
    .split('\r\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

describe('azure-iothub Registry: jobs', () => {
  it('exports the registry to devices.txt, with keys or without', async () => {
    const edge = await createEdge(under.registry, 'gateway');
    const leaf = await createDevice(under.registry, 'leaf', { deviceScope: edge.deviceScope });
    await under.registry.updateTwin('leaf', { tags: { site: 'north' } }, '*');
    const job = await finished(await under.registry.exportDevicesToBlob(uri, false));
    expect(job).toMatchObject({ type: 'export', status: 'completed', progress: 100 });
    expect(JSON.stringify(job)).not.toContain('sig=');
    const [, exported] = await lines('devices.txt');
    expect(exported).toMatchObject({ id: 'leaf', deviceScope: edge.deviceScope, tags: { site: 'north' } });
    expect(exported?.authentication).toEqual(leaf.authentication);
    await finished(await under.registry.exportDevicesToBlob(uri, true));
    expect(await lines('devices.txt')).toMatchObject([
      { authentication: { symmetricKey: { primaryKey: null } } },
      { authentication: { symmetricKey: { primaryKey: null } } },
    ]);
    expect((await under.registry.listJobs()).responseBody).toHaveLength(2);
  });

  it('imports devices.txt, creating and updating, and logs what it could not do', async () => {
    await createDevice(under.registry, 'old');
    const text = [
      { id: 'new', tags: { site: 'north' } },
      { id: 'old', status: 'disabled' },
      { id: 'old', importMode: 'create' },
      { id: 'gone', importMode: 'delete' },
    ].map((item) => `${JSON.stringify(item)}\r\n`);
    await container.getBlockBlobClient('devices.txt').upload(text.join(''), Buffer.byteLength(text.join('')));
    expect(await finished(await under.registry.importDevicesFromBlob(uri, uri))).toMatchObject({ status: 'completed' });
    expect((await under.registry.getTwin('new')).responseBody.tags).toEqual({ site: 'north' });
    expect((await getDevice(under.registry, 'old')).status).toBe('disabled');
    expect(await lines('importErrors.log')).toMatchObject([
      { deviceId: 'old', errorCode: 409001 },
      { deviceId: 'gone', errorCode: 404001 },
    ]);
  });

  it('fails, and says why, where there is nothing to import', async () => {
    const job = await finished(await under.registry.importDevicesFromBlob(uri, uri));
    expect(job).toMatchObject({ status: 'failed', failureReason: expect.stringContaining('404') });
  });

  it('runs one at a time, and a job can be cancelled', async () => {
    storageFaults.add({ target: 'storage', match: { path: 'devices\\.txt' }, fault: { hang: true } });
    const { jobId } = (await under.registry.exportDevicesToBlob(uri, false)) as unknown as JobAnswer;
    const second = await refusal(under.registry.exportDevicesToBlob(uri, false));
    expect(second).toMatchObject({ status: 403, code: 'JobQuotaExceeded' });
    await under.registry.cancelJob(jobId);
    expect(await under.registry.getJob(jobId)).toMatchObject({ status: 'cancelled' });
    storageFaults.clear();
    expect(await finished(await under.registry.exportDevicesToBlob(uri, false))).toMatchObject({ status: 'completed' });
  });

  it('is refused for a container that is none, for managed identity, and when it is not there', async () => {
    const bad = await refusal(under.registry.exportDevicesToBlob('container', false));
    expect(bad).toMatchObject({ status: 400, code: 'BlobContainerValidationError' });
    const identity = await refusal(under.registry.exportDevicesToBlobByIdentity(uri, false));
    expect(identity).toMatchObject({ status: 400, code: 'ManagedIdentityNotEnabled' });
    expect(await refusal(under.registry.getJob('none'))).toMatchObject({ status: 404 });
    expect(await refusal(under.registry.cancelJob('none'))).toMatchObject({ status: 404 });
  });
});

describe('bulk updates of twins', () => {
  it('change tags, under the ETag of the twin where asked', async () => {
    await createDevice(under.registry, 'pump');
    const { registry } = under;
    // updateDevices sets its own importMode: only a raw item can ask for the twin.
    const bulk = (item: object) =>
      new Promise<number>((resolve) => {
        const body = [{ id: 'pump', ...item }];
        const { _restApiClient: client } = registry as unknown as {
          _restApiClient: {
            executeApiCall(
              method: string,
              path: string,
              headers: object,
              body: unknown,
              done: (error: { response: { statusCode: number } } | null) => void,
            ): void;
          };
        };
        const headers = { 'Content-Type': 'application/json; charset=utf-8' };
        client.executeApiCall('POST', '/devices?api-version=2021-04-12', headers, body, (error) =>
          resolve(error?.response.statusCode ?? 200),
        );
      });
    expect(await bulk({ importMode: 'updateTwin', tags: { a: 1 } })).toBe(200);
    const stale = { importMode: 'updateTwinIfMatchETag', twinETag: 'AAAAAAAAAAE=', tags: { a: 2 } };
    expect(await bulk(stale)).toBe(400);
    expect(await bulk({ importMode: 'createOrUpdate' })).toBe(400);
    expect((await registry.getTwin('pump')).responseBody.tags).toEqual({ a: 1 });
  });
});
