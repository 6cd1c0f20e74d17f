import type { Check, CheckName, Context, Outcome, Own } from './context.ts';
import { defineCodes, type Finding, finder } from './findings.ts';
import { canonical } from './observe/connections.ts';
import { type MqttConnectResult, sayConnect } from './observe/mqtt-connect.ts';
import { signSasToken } from './observe/sas-token.ts';

export const connectCodes = defineCodes({
  connect_ok: {
    severity: 'ok',
    cause: 'The gateway lets {device} in (MQTT CONNACK 0).',
    cure: 'Nothing needs to be done.',
    command: 'gatepost-device run --state {state} </dev/null',
  },
  connect_skipped: {
    severity: 'info',
    cause: 'The gateway was not asked to let {device} in: {reason}.',
    cure: 'Stop the client and check again, or use --connect, which pushes a running client of this identity out for a moment.',
    command: 'gatepost-device check --state {state} --connect',
  },
  connect_refused: {
    severity: 'error',
    cause: 'The gateway refuses {device} (MQTT CONNACK {code}), and edgeHub gives the same answer for every reason.',
    cure: 'Go through the likely reasons in their order; where the Gatepost API can be reached, this check tells more.',
    command: 'ssh GATEWAY sudo iotedge logs edgeHub --tail 50 | grep -i -e scope -e "not authenticated" -e token',
    likely: [
      'it is not linked to this gateway, or was linked to another (edgeHub log: "Client ... in device scope not authenticated locally", "Received null device scope result")',
      'its key was rotated, or its certificate is not the registered one',
      'it is disabled',
      'it was linked, enabled or given a key less than 120 s ago and was known to the gateway before: edgeHub asks again only then',
      'the gateway has no way to the IoT Hub, and has never seen this device',
      'the clock of this device or of the gateway is off by more than 5 minutes',
    ],
  },
  connect_gateway_uninformed: {
    severity: 'error',
    cause:
      'The gateway refuses {device} (MQTT CONNACK {code}), which is registered behind it, enabled, and has this credential by what the API says.',
    cure: 'Try again in 2 minutes, when edgeHub may ask again; then restart edgeHub on the gateway, and look at its way to the IoT Hub and at its clock.',
    command: 'ssh GATEWAY "date -u; sudo iotedge check; sudo iotedge logs edgeHub --tail 50"',
    likely: [
      'a change of less than 120 s ago: edgeHub asks for an identity that it knows at most that often',
      'the gateway has no way to the IoT Hub, and goes by what it last heard',
      'the clock of the gateway is off by more than 5 minutes',
    ],
  },
  connect_busy: {
    severity: 'error',
    cause: 'The gateway is not available to {device} right now (MQTT CONNACK 3).',
    cure: 'Wait a minute; if it stays so, count the clients of this gateway: edgeHub takes 100 unless MaxConnectedClients says more.',
    command: 'ssh GATEWAY sudo iotedge logs edgeHub --tail 50',
    likely: [
      'it has as many clients as it may have',
      'edgeHub is starting',
      'edgeHub has lost its way to the IoT Hub and has not decided yet',
    ],
  },
  connect_closed: {
    severity: 'error',
    cause: 'The gateway closes the connection in answer to CONNECT of {device}: {reason}.',
    cure: 'Read the log of edgeHub for that moment: it closes where it cannot read the request, and where it refuses a certificate.',
    command: 'ssh GATEWAY sudo iotedge logs edgeHub --tail 50',
    likely: [
      'the client certificate is not accepted',
      'the device id has characters that edgeHub cannot read in a user name',
      'edgeHub is stopping',
    ],
  },
  connect_silent: {
    severity: 'error',
    cause: 'The gateway completes the TLS handshake and does not answer the CONNECT of {device}: {reason}.',
    cure: 'Look whether edgeHub waits for the IoT Hub: it looks an unknown device up there before it answers.',
    command: 'ssh GATEWAY "sudo iotedge check --verbose; sudo iotedge logs edgeHub --tail 50"',
  },
});

const found = finder(connectCodes);
const apiVersion = '2021-04-12';
const tokenSeconds = 300;

/** Nothing is sent to a peer that is not proven, and nothing asked that has been answered. */
const needs: CheckName[] = ['clock', 'name', 'expiry', 'verification', 'credential', 'identity'];

export const connectCheck: Check = {
  name: 'connect',
  title: 'being let in by the gateway',
  needs,
  ownOnly: true,
  async run(context): Promise<Outcome> {
    const { own, common } = context;
    if (own === undefined) return { skippedFor: 'state' };
    const reason = await whyNot(context, own);
    if (reason !== undefined) return [found('connect_skipped', common, { reason })];
    const result = await connect(context, own);
    return result === undefined ? { skippedFor: 'ports' } : [await explain(context, result)];
  },
};

/** A CONNECT with the client id of a running client ends that one's connection (MQTT 3.1.1, section 3.1.4). */
async function whyNot({ host, ports, observe }: Context, own: Own): Promise<string | undefined> {
  if (ports.mqtt === null) return 'it serves no MQTT on a port of its own, which is what this check speaks';
  if (own.connect === 'never') return 'that was not wanted (--no-connect)';
  if (own.string.credential.kind === 'x509' && own.certificate === undefined) return 'its certificate was not named';
  if (own.connect === 'always') return undefined;
  const peers = await observe.peers();
  if (peers === undefined) return 'this system does not tell whether a client of it is running';
  const resolved = await observe.addresses();
  const addresses = 'addresses' in resolved ? resolved.addresses : [];
  const listeners = Object.values(ports).filter((port) => port !== null);
  const isThere = addresses.some((address) => listeners.some((port) => peers.has(`${canonical(address)}:${port}`)));
  return isThere ? `something on this machine is connected to ${host} already, which may be its own client` : undefined;
}

async function connect(context: Context, own: Own): Promise<MqttConnectResult | undefined> {
  const { observe, port, host, timeoutMs } = context;
  const [dialled, now] = await Promise.all([observe.dial(port), observe.time()]);
  if ('failed' in dialled || now === undefined) return undefined;
  const { credential, hub } = own.string;
  return sayConnect({
    address: dialled.open,
    host,
    port,
    roots: context.roots,
    clientId: own.id,
    userName: `${hub}/${own.id}/?api-version=${apiVersion}&DeviceClientType=gatepost-device`,
    password: password(own, now),
    certificate: credential.kind === 'x509' ? own.certificate : undefined,
    timeoutMs,
  });
}

/** The SAS token by which this device proves itself; undefined for one that has a certificate. */
export function password({ string: { credential }, resource }: Own, now: Date): string | undefined {
  if (credential.kind === 'sas') return credential.sharedAccessSignature;
  if (credential.kind === 'x509') return undefined;
  return signSasToken(resource, credential.sharedAccessKey, new Date(now.getTime() + tokenSeconds * 1000));
}

async function explain({ common, observe }: Context, result: MqttConnectResult): Promise<Finding> {
  if ('failed' in result) {
    const { reason } = result;
    return result.failed === 'silent'
      ? found('connect_silent', common, { reason })
      : found('connect_closed', common, { reason });
  }
  const code = result.connack;
  if (code === 0) return found('connect_ok', common, {});
  if (code === 3) return found('connect_busy', common, {});
  const onboarding = await observe.onboarding();
  return 'document' in onboarding
    ? found('connect_gateway_uninformed', common, { code })
    : found('connect_refused', common, { code });
}
