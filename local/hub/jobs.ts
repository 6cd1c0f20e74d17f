import { randomUUID } from 'node:crypto';
import { applyItem } from './bulk.ts';
import { HubError } from './errors.ts';
import { checkId, readObject } from './input.ts';
import { deviceJson, propertiesJson, scopesAbove, twinEtag } from './model.ts';
import type { HubRegistry } from './registry.ts';

type JobStatus = 'enqueued' | 'running' | 'completed' | 'failed' | 'cancelled';

/** A job as the service answers it. */
export interface Job {
  jobId: string;
  type: 'import' | 'export';
  status: JobStatus;
  progress: number;
  startTimeUtc: string;
  endTimeUtc?: string;
  failureReason?: string;
  inputBlobContainerUri?: string;
  outputBlobContainerUri: string;
  inputBlobName: string;
  outputBlobName: string;
  excludeKeysInExport: boolean;
}

const blobVersion = '2021-08-06';

/**
 * Import and export of the registry by way of a blob container, one job at a time
 * (learn.microsoft.com, *Import and export IoT Hub device identities in bulk*).
 */
export class RegistryJobs {
  readonly #registry: HubRegistry;
  readonly #jobs = new Map<string, Job>();
  readonly #aborted = new Map<string, AbortController>();

  constructor(registry: HubRegistry) {
    this.#registry = registry;
  }

  list(): object[] {
    return [...this.#jobs.values()].map(jobJson);
  }

  get(jobId: string): object {
    return jobJson(this.#find(jobId));
  }

  /** Answers the job as it is enqueued; it runs on its own. */
  create(body: unknown): object {
    const job = this.#read(readObject(body));
    const isBusy = [...this.#jobs.values()].some((one) => one.status === 'enqueued' || one.status === 'running');
    if (isBusy) throw new HubError('JobQuotaExceeded', 'One import or export job may run at a time.');
    this.#jobs.set(job.jobId, job);
    const answer = jobJson(job);
    const abort = new AbortController();
    this.#aborted.set(job.jobId, abort);
    setImmediate(() => void this.#run(job, abort.signal));
    return answer;
  }

  cancel(jobId: string): void {
    const job = this.#find(jobId);
    if (job.status === 'enqueued' || job.status === 'running') this.#end(job, 'cancelled');
    this.#aborted.get(jobId)?.abort();
  }

  close(): void {
    for (const jobId of this.#jobs.keys()) this.cancel(jobId);
  }

  #find(jobId: string): Job {
    const job = this.#jobs.get(jobId);
    if (job === undefined) throw new HubError('JobNotFound', `Job ${jobId} not found`);
    return job;
  }

  #read(given: Record<string, unknown>): Job {
    const { type } = given;
    if (type !== 'import' && type !== 'export') throw new HubError('ArgumentInvalid', `No job type: ${String(type)}`);
    if (given.storageAuthenticationType === 'identityBased' || given.storageAuthenticationType === 'IdentityBased') {
      throw new HubError('ManagedIdentityNotEnabled', 'This hub has no managed identity to reach the storage with.');
    }
    const outputBlobContainerUri = readUri(given.outputBlobContainerUri, 'outputBlobContainerUri');
    const input = type === 'import' && {
      inputBlobContainerUri: readUri(given.inputBlobContainerUri, 'inputBlobContainerUri'),
    };
    return {
      jobId: randomUUID(),
      type,
      status: 'enqueued',
      progress: 0,
      startTimeUtc: this.#registry.now().toISOString(),
      ...input,
      outputBlobContainerUri,
      inputBlobName: readName(given.inputBlobName, 'devices.txt'),
      outputBlobName: readName(given.outputBlobName, 'devices.txt'),
      excludeKeysInExport: given.excludeKeysInExport === true,
    };
  }

  async #run(job: Job, signal: AbortSignal): Promise<void> {
    if (job.status !== 'enqueued') return;
    job.status = 'running';
    try {
      if (job.type === 'export') {
        const lines = exportLines(this.#registry, job.excludeKeysInExport);
        await writeBlob(job.outputBlobContainerUri, job.outputBlobName, lines, signal);
      } else {
        const lines = await readBlob(job.inputBlobContainerUri ?? '', job.inputBlobName, signal);
        const errors = importLines(this.#registry, lines);
        if (errors.length > 0) await writeBlob(job.outputBlobContainerUri, 'importErrors.log', errors, signal);
      }
      if (!signal.aborted) this.#end(job, 'completed');
    } catch (error) {
      if (signal.aborted) return;
      job.failureReason = error instanceof Error ? error.message : String(error);
      this.#end(job, 'failed');
    } finally {
      this.#aborted.delete(job.jobId);
    }
  }

  #end(job: Job, status: JobStatus): void {
    job.status = status;
    job.progress = status === 'completed' ? 100 : job.progress;
    job.endTimeUtc = this.#registry.now().toISOString();
  }
}

/** The SAS of a container is in its URI: it is not answered. */
function jobJson({ inputBlobContainerUri, outputBlobContainerUri, ...job }: Job): object {
  const bare = (uri: string) => uri.split('?')[0];
  return {
    ...job,
    ...(inputBlobContainerUri !== undefined && { inputBlobContainerUri: bare(inputBlobContainerUri) }),
    outputBlobContainerUri: bare(outputBlobContainerUri),
  };
}

function exportLines(registry: HubRegistry, excludeKeys: boolean): string[] {
  return [...registry.devices.values()].map((device) => {
    const { authentication } = deviceJson(device) as { authentication: object };
    const keys = excludeKeys && { symmetricKey: { primaryKey: null, secondaryKey: null } };
    return JSON.stringify({
      id: device.deviceId,
      eTag: device.etag,
      status: device.status,
      ...(device.statusReason !== null && { statusReason: device.statusReason }),
      authentication: { ...authentication, ...keys },
      twinETag: twinEtag(device.twin),
      tags: device.twin.tags,
      properties: {
        desired: propertiesJson(device.twin.desired, true),
        reported: propertiesJson(device.twin.reported, true),
      },
      capabilities: { iotEdge: device.iotEdge },
      ...(device.deviceScope !== null && { deviceScope: device.deviceScope, parentScopes: scopesAbove(device) }),
    });
  });
}

function importLines(registry: HubRegistry, lines: string[]): string[] {
  const errors: string[] = [];
  for (const line of lines) {
    let deviceId = '';
    try {
      const given = readObject(JSON.parse(line));
      deviceId = String(given.id ?? '');
      checkId(deviceId, undefined, 'device');
      applyItem(registry, deviceId, given, 'createOrUpdate');
    } catch (error) {
      const errorCode = error instanceof HubError ? error.errorCode : 400012;
      errors.push(JSON.stringify({ deviceId, errorCode, errorStatus: (error as Error).message }));
    }
  }
  return errors;
}

async function readBlob(container: string, name: string, signal: AbortSignal): Promise<string[]> {
  const answer = await fetch(blobUri(container, name), { signal, headers: { 'x-ms-version': blobVersion } });
  if (!answer.ok) throw new Error(`Reading ${name} failed with status ${answer.status}.`);
  return (await answer.text()).split(/\r?\n/).filter((line) => line !== '');
}

async function writeBlob(container: string, name: string, lines: string[], signal: AbortSignal): Promise<void> {
  const headers = { 'x-ms-version': blobVersion, 'x-ms-blob-type': 'BlockBlob' };
  const body = lines.map((line) => `${line}\r\n`).join('');
  const answer = await fetch(blobUri(container, name), { method: 'PUT', signal, headers, body });
  if (!answer.ok) throw new Error(`Writing ${name} failed with status ${answer.status}.`);
}

function blobUri(container: string, name: string): URL {
  const uri = new URL(container);
  uri.pathname = `${uri.pathname.replace(/\/$/, '')}/${encodeURIComponent(name)}`;
  return uri;
}

function readUri(value: unknown, name: string): string {
  if (typeof value === 'string' && URL.canParse(value)) return value;
  throw new HubError('BlobContainerValidationError', `${name} is no address of a blob container.`);
}

function readName(value: unknown, fallback: string): string {
  return typeof value === 'string' && value !== '' ? value : fallback;
}
