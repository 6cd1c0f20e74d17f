import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

export type IdType = 'device' | 'module' | 'local';

/** Who may do what at identityd. */
export interface Principal {
  uid: number;
  name: string;
  /** Absent: a daemon, which may do everything; only the first of these counts. */
  idtype?: IdType[];
}

/** Which keys or certificates a user may reach by their id; `*` and `?` as in wildmatch. */
export interface Grant {
  uid: number;
  keys?: string[];
  certs?: string[];
}

type Value = number | string | string[];
type Table = Record<string, Value>;

/** A configuration that the daemon would not start with, or go on without. */
export class ConfigError extends Error {}

/**
 * The `[[principal]]` tables of a `config.d` folder: regular files that end in `.toml`, in the order of their names, the
 * tables of all one after the other (config-common/src/lib.rs). The daemon is the owner of its folder; a file that it
 * may not read stops it.
 */
export function readTables(folder: string): Table[] {
  const owner = statSync(folder).uid;
  const names = readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.toml'))
    .map((entry) => entry.name)
    .sort();
  return names.flatMap((name) => {
    const path = join(folder, name);
    const { uid, mode } = statSync(path);
    const mayRead = owner === 0 || (uid === owner ? (mode & 0o400) !== 0 : (mode & 0o004) !== 0);
    if (!mayRead) throw new ConfigError(`${path}: permission denied for user ${owner}`);
    return parseTables(readFileSync(path, 'utf8'), path);
  });
}

/** The part of TOML that these files are written in; whatever else stands there is refused. */
export function parseTables(text: string, path: string): Table[] {
  const tables: Table[] = [];
  text.split('\n').forEach((raw, index) => {
    const line = raw.replace(/^\s+|\s+$/g, '');
    if (line === '' || line.startsWith('#')) return;
    const fail = (what: string) => new ConfigError(`${path}:${index + 1}: ${what}`);
    if (/^\[\[\s*principal\s*\]\](\s*#.*)?$/.test(line)) {
      tables.push({});
      return;
    }
    const [, key, value] = /^([A-Za-z0-9_-]+)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    const table = tables.at(-1);
    if (key === undefined || value === undefined || table === undefined) throw fail('expected [[principal]]');
    if (key in table) throw fail(`duplicate key \`${key}\``);
    table[key] = parseValue(value, fail);
  });
  return tables;
}

function parseValue(text: string, fail: (what: string) => ConfigError): Value {
  const value = text.replace(/\s+#[^"\]]*$/, '');
  if (/^\d+$/.test(value)) return Number(value);
  const quoted = /^"([^"\\]*)"$/.exec(value)?.[1];
  if (quoted !== undefined) return quoted;
  if (!/^\[\s*("[^"\\]*"\s*(,\s*"[^"\\]*"\s*)*,?)?\s*\]$/.test(value)) throw fail('this is no value');
  return [...value.matchAll(/"([^"\\]*)"/g)].map((found) => found[1] ?? '');
}

/** identityd's principals. Throws {@link ConfigError} for a table that its settings do not read, and for a name twice. */
export function readPrincipals(tables: Table[]): Principal[] {
  const principals = tables.map(({ uid, name, idtype }): Principal => {
    if (typeof uid !== 'number') throw new ConfigError('missing field `uid` in a principal');
    if (typeof name !== 'string' || name === '') throw new ConfigError('missing field `name` in a principal');
    if (idtype === undefined) return { uid, name };
    const types = Array.isArray(idtype) ? idtype : [];
    if (types.length === 0 || !types.every((type) => ['device', 'module', 'local'].includes(type))) {
      throw new ConfigError(`the idtype of ${name} is not made of "device", "module", "local"`);
    }
    return { uid, name, idtype: types as IdType[] };
  });
  return checkPrincipals(principals);
}

/** Throws {@link ConfigError} where two have one name: the whole configuration is then refused. */
export function checkPrincipals(principals: Principal[]): Principal[] {
  const names = principals.map(({ name }) => name);
  const twice = names.find((name, at) => names.indexOf(name) !== at);
  if (twice !== undefined) throw new ConfigError(`duplicate module name: ${twice}`);
  const local = principals.find((one) => one.idtype?.includes('local'));
  if (local !== undefined) throw new ConfigError(`${local.name}: idtype "local" needs [localid], which is not set`);
  return principals;
}

export function readGrants(tables: Table[]): Grant[] {
  return tables.map(({ uid, keys, certs }) => {
    if (typeof uid !== 'number') throw new ConfigError('missing field `uid` in a principal');
    return { uid, ...(Array.isArray(keys) && { keys }), ...(Array.isArray(certs) && { certs }) };
  });
}

/** What identityd makes of a caller. */
export type Authority =
  | { kind: 'daemon' }
  | { kind: 'host'; name: string; idtype: IdType[] }
  | { kind: 'root' }
  | { kind: 'unknown' };

/**
 * Principals are looked at before the rule that root may do everything: a principal with uid 0 makes root a host
 * process (identity/aziot-identityd/src/lib.rs, SettingsAuthenticator; configext.rs, prepare_authorized_principals).
 */
export function authorityOf(principals: readonly Principal[], uid: number): Authority {
  let found: Authority | undefined;
  let hasDaemon = false;
  for (const principal of principals) {
    if (principal.idtype === undefined) {
      if (hasDaemon) continue;
      hasDaemon = true;
    }
    // One principal for a user: the later one stands.
    if (principal.uid !== uid) continue;
    const { name, idtype } = principal;
    found = idtype === undefined ? { kind: 'daemon' } : { kind: 'host', name, idtype };
  }
  return found ?? (uid === 0 ? { kind: 'root' } : { kind: 'unknown' });
}

/** Whether one of the patterns matches, `*` any run of characters and `?` one. */
export function isGranted(patterns: readonly string[], id: string): boolean {
  return patterns.some((pattern) => {
    const expression = pattern
      .replace(/[.+^${}()|[\]\\]/g, '\\$&')
      .replaceAll('*', '.*')
      .replaceAll('?', '.');
    return new RegExp(`^${expression}$`, 's').test(id);
  });
}
