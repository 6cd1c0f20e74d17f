import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { LogLevel } from './protocol.ts';

/** What this host reads of host.json, defaults filled in. Times are milliseconds. */
export interface HostJson {
  http: {
    /** `api` unless host.json says otherwise; empty: no prefix. */
    routePrefix: string;
    /** Requests above this are answered 429; undefined: no limit. */
    maxOutstandingRequests: number | undefined;
    /** Added to every answer. */
    customHeaders: Record<string, string>;
  };
  queues: QueueSettings;
  /** Least level by category prefix; `default` for the rest. */
  logLevels: Record<string, LogLevel>;
}

/** https://learn.microsoft.com/azure/azure-functions/functions-bindings-storage-queue#host-json */
export interface QueueSettings {
  batchSize: number;
  newBatchThreshold: number;
  maxDequeueCount: number;
  maxPollingInterval: number;
  /** How long a message stays invisible after a failure. */
  visibilityTimeout: number;
  messageEncoding: 'base64' | 'none';
}

type Json = Record<string, unknown>;

/** @throws where there is no host.json, or one that does not read as one: the real host does not start either. */
export async function readHostJson(directory: string): Promise<HostJson> {
  const path = join(directory, 'host.json');
  const json = object(JSON.parse(await readFile(path, 'utf8')), 'host.json');
  if (json.version !== '2.0') throw new Error(`${path}: version must be "2.0".`);
  const extensions = object(json.extensions, 'extensions');
  const http = object(extensions.http, 'extensions.http');
  const outstanding = integer(http.maxOutstandingRequests, 'extensions.http.maxOutstandingRequests', -1);
  return {
    http: {
      routePrefix: text(http.routePrefix, 'extensions.http.routePrefix', 'api').replace(/^\/+|\/+$/g, ''),
      maxOutstandingRequests: outstanding < 0 ? undefined : outstanding,
      customHeaders: strings(http.customHeaders, 'extensions.http.customHeaders'),
    },
    queues: readQueues(object(extensions.queues, 'extensions.queues')),
    logLevels: readLogLevels(object(object(json.logging, 'logging').logLevel, 'logging.logLevel')),
  };
}

function readQueues(queues: Json): QueueSettings {
  const batchSize = integer(queues.batchSize, 'extensions.queues.batchSize', 16);
  if (batchSize < 1 || batchSize > 32) throw new Error('extensions.queues.batchSize is 1 to 32.');
  const messageEncoding = text(queues.messageEncoding, 'extensions.queues.messageEncoding', 'base64').toLowerCase();
  if (messageEncoding !== 'base64' && messageEncoding !== 'none') {
    throw new Error('extensions.queues.messageEncoding is base64 or none.');
  }
  return {
    batchSize,
    newBatchThreshold: integer(queues.newBatchThreshold, 'extensions.queues.newBatchThreshold', batchSize / 2),
    maxDequeueCount: integer(queues.maxDequeueCount, 'extensions.queues.maxDequeueCount', 5),
    maxPollingInterval: timeSpan(queues.maxPollingInterval, 'extensions.queues.maxPollingInterval', 60_000),
    visibilityTimeout: timeSpan(queues.visibilityTimeout, 'extensions.queues.visibilityTimeout', 0),
    messageEncoding,
  };
}

const levels: readonly LogLevel[] = ['trace', 'debug', 'information', 'warning', 'error', 'critical', 'none'];

function readLogLevels(section: Json): Record<string, LogLevel> {
  const read: Record<string, LogLevel> = { default: 'information' };
  for (const [category, name] of Object.entries(section)) {
    const level = levels.find((known) => known === String(name).toLowerCase());
    if (level === undefined) throw new Error(`logging.logLevel.${category}: ${String(name)} is no level.`);
    read[category.toLowerCase() === 'default' ? 'default' : category] = level;
  }
  return read;
}

/** A .NET time span `[d.]hh:mm:ss[.fraction]`, in milliseconds; undefined where the text is none. */
export function parseTimeSpan(value: string): number | undefined {
  const parts = /^(?:(\d+)\.)?(\d{1,2}):(\d{1,2}):(\d{1,2}(?:\.\d{1,7})?)$/.exec(value);
  if (parts === null) return undefined;
  const [days, hours, minutes, seconds] = parts.slice(1).map((part) => Number(part ?? 0)) as [
    number,
    number,
    number,
    number,
  ];
  if (hours > 23 || minutes > 59 || seconds >= 60) return undefined;
  return Math.round((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000);
}

function timeSpan(value: unknown, name: string, fallback: number): number {
  if (value === undefined) return fallback;
  const parsed = typeof value === 'string' ? parseTimeSpan(value) : undefined;
  if (parsed === undefined) throw new Error(`${name} is a time span such as "00:00:30".`);
  return parsed;
}

function integer(value: unknown, name: string, fallback: number): number {
  if (value === undefined) return fallback;
  if (!Number.isInteger(value)) throw new Error(`${name} is a whole number.`);
  return value as number;
}

function text(value: unknown, name: string, fallback: string): string {
  if (value === undefined) return fallback;
  if (typeof value !== 'string') throw new Error(`${name} is a text.`);
  return value;
}

function strings(value: unknown, name: string): Record<string, string> {
  const read: Record<string, string> = {};
  for (const [key, entry] of Object.entries(object(value, name))) read[key] = text(entry, `${name}.${key}`, '');
  return read;
}

function object(value: unknown, name: string): Json {
  if (value === undefined) return {};
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error(`${name} is an object.`);
  return value as Json;
}
