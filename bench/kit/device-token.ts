import { createHmac } from 'node:crypto';

/** A SAS token as the device makes it from its connection string (Microsoft Learn, "Control access to IoT Hub with SAS"). */
export function deviceToken(connectionString: string, expiresInSeconds = 3600): string {
  const pairs = connectionString
    .split(';')
    .map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]);
  const { HostName, DeviceId, SharedAccessKey } = Object.fromEntries(pairs) as Record<string, string>;
  const resource = encodeURIComponent(`${HostName}/devices/${DeviceId}`);
  const expiry = Math.floor(Date.now() / 1000) + expiresInSeconds;
  const signature = createHmac('sha256', Buffer.from(SharedAccessKey ?? '', 'base64'))
    .update(`${resource}\n${expiry}`)
    .digest('base64');
  return `SharedAccessSignature sr=${resource}&sig=${encodeURIComponent(signature)}&se=${expiry}`;
}
