import type { AuditSubject } from './record.ts';

const tablePrefix = 'gatepostaudit';
/** Milliseconds in thirteen digits last until the year 2286. */
const last = 9_999_999_999_999;

/** What all tables of the audit log are called, up to the month. */
export const auditTables = tablePrefix;

/** The table of a month in UTC: what is too old goes with its whole table, whatever number of rows that is. */
export function tableOf(at: Date): string {
  return `${tablePrefix}${at.toISOString().slice(0, 7).replace('-', '')}`;
}

/** The first instant after the month of a table; undefined for a table of another kind. */
export function endOf(table: string): Date | undefined {
  const [, year, month] = /^gatepostaudit(\d{4})(\d{2})$/.exec(table) ?? [];
  return year === undefined ? undefined : new Date(Date.UTC(Number(year), Number(month), 1));
}

/** Keys sort by time, latest first. */
export function timeKey(at: Date): string {
  return String(last - at.getTime()).padStart(13, '0');
}

/** Whether a text is where a page can go on. */
export function isPlace(text: string): boolean {
  return /^\d{13}(?:\.[0-9a-f]{12}\.\d)?$/.test(text);
}

export function timeOf(rowKey: string): Date {
  return new Date(last - Number(rowKey.slice(0, 13)));
}

export function devicePartition(deviceId: string): string {
  return `device.${encoded(deviceId)}`;
}

export function rootPartition(root: string): string {
  return `root.${encoded(root)}`;
}

export function callerPartition(caller: string): string {
  return `caller.${encoded(caller)}`;
}

/** Where the history of the subject is. A gateway is a device of the hub, and its id stands for it there too. */
export function subjectPartition({ deviceId, gatewayId, root }: AuditSubject): string | undefined {
  if (root !== undefined) return rootPartition(root);
  const id = deviceId ?? gatewayId;
  return id === undefined ? undefined : devicePartition(id);
}

/** Ids may hold what keys may not: / \ # ? (Table service REST, "Understanding the Table service data model"). */
function encoded(id: string): string {
  return encodeURIComponent(id).replaceAll("'", '%27').replaceAll('%', '=');
}
