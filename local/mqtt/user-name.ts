/** The parts of an MQTT user name as the Azure device SDKs write it. */
export interface UserName {
  host: string;
  deviceId: string;
  moduleId: string | null;
  properties: Map<string, string>;
}

/**
 * Reads `{host}/{deviceId}[/{moduleId}]/[?]api-version=...&...`; undefined where it does not read as one. A property
 * that is given twice keeps its first value, and `api-version` must be there and not blank, whatever it says
 * (Azure/iotedge, edge-hub/core MqttUsernameParser.cs).
 */
export function parseUserName(text: string | undefined): UserName | undefined {
  if (text === undefined) return undefined;
  const mark = text.indexOf('/?');
  const split = mark === -1 ? text.lastIndexOf('/') : mark;
  if (split === -1) return undefined;
  const [host, deviceId, moduleId, ...others] = text.slice(0, split).split('/');
  if (!host || !deviceId || moduleId === '' || others.length > 0) return undefined;
  const properties = new Map<string, string>();
  for (const pair of text.slice(split + (mark === -1 ? 1 : 2)).split('&')) {
    const [name, value] = decodePair(pair) ?? [];
    if (name === undefined || value === undefined) return undefined;
    if (!properties.has(name)) properties.set(name, value);
  }
  if (!properties.get('api-version')?.trim()) return undefined;
  return { host, deviceId, moduleId: moduleId ?? null, properties };
}

/** One `name=value` of a query, both percent-decoded; undefined where an escape is broken. */
export function decodePair(pair: string): [string, string] | undefined {
  const equals = pair.indexOf('=');
  const name = equals === -1 ? pair : pair.slice(0, equals);
  try {
    return [decodeURIComponent(name), equals === -1 ? '' : decodeURIComponent(pair.slice(equals + 1))];
  } catch {
    return undefined;
  }
}
