import type { QueueClient } from '@azure/storage-queue';
import type { Binding, TypedData } from './protocol.ts';
import type { Settings } from './settings.ts';

/**
 * The connection string that a binding's `connection` names: the setting `AzureWebJobsNAME` before the setting `NAME`,
 * `AzureWebJobsStorage` where it names none.
 *
 * @throws where there is no such setting. Connections by identity are not served locally.
 */
export function connectionStringOf(binding: Binding, settings: Settings): string {
  const name = typeof binding.connection === 'string' && binding.connection !== '' ? binding.connection : 'Storage';
  const found = settings[`AzureWebJobs${name}`] ?? settings[name];
  if (found !== undefined && found !== '') return found;
  throw new Error(
    `Storage account connection string '${name}' does not exist. Make sure that it is a defined App Setting.`,
  );
}

/** @throws where the queue's name is missing or the connection is not defined. */
export async function queueClientOf(binding: Binding, settings: Settings): Promise<QueueClient> {
  const name = queueNameOf(binding);
  const connectionString = connectionStringOf(binding, settings);
  // Loaded by the first app that has a queue: it would double the start of every other.
  const { QueueServiceClient } = await import('@azure/storage-queue');
  return QueueServiceClient.fromConnectionString(connectionString).getQueueClient(name);
}

export function queueNameOf(binding: Binding): string {
  const name = typeof binding.queueName === 'string' ? binding.queueName.toLowerCase() : '';
  if (!/^[a-z0-9](?:-?[a-z0-9]){2,62}$/.test(name)) throw new Error(`'${name}' is not a valid queue name.`);
  return name;
}

/** The messages that one output value stands for: an array is several. */
export function toMessages(value: TypedData): Buffer[] {
  if (value.bytes !== undefined) return [Buffer.from(value.bytes)];
  if (value.string !== undefined) return [Buffer.from(value.string)];
  if (value.json !== undefined) {
    const parsed: unknown = JSON.parse(value.json);
    const entries = Array.isArray(parsed) ? parsed : [parsed];
    return entries.map((entry) => Buffer.from(typeof entry === 'string' ? entry : JSON.stringify(entry)));
  }
  const number = value.int ?? value.double;
  return number === undefined ? [] : [Buffer.from(String(number))];
}
