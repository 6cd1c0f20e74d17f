import { gatewayAddressOf } from './addresses.ts';
import type { Check, CheckName, Context, Own } from './context.ts';
import { defineCodes, type Finding, finder } from './findings.ts';
import { isHubName } from './peer.ts';

export const agreementCodes = defineCodes({
  agreement_ok: {
    severity: 'ok',
    cause: 'The connection string, the stored document and the API name the same gateway: {host}:{port}.',
    cure: 'Nothing needs to be done.',
    command: 'grep -o "GatewayHostName=[^;\\"]*" {state}/document.json',
  },
  agreement_unasked: {
    severity: 'info',
    cause:
      'The connection string and the stored document name the same gateway, {host}; the API could not be asked: {reason}.',
    cure: 'Compare {host} with the "hostname" in the config.toml of the gateway.',
    command:
      'ssh GATEWAY grep ^hostname /etc/aziot/config.toml; grep -o "GatewayHostName=[^;\\"]*" {state}/document.json',
  },
  gateway_renamed: {
    severity: 'error',
    cause: 'Gateway {gateway} is registered as {newName} by now, and this device still goes to {host}.',
    cure: 'Join again, which fetches the new name; GatewayHostName must equal the "hostname" of the gateway.',
    command:
      'ssh GATEWAY grep ^hostname /etc/aziot/config.toml; grep -o "GatewayHostName=[^;\\"]*" {state}/document.json',
  },
  gateway_port_changed: {
    severity: 'error',
    cause: 'Gateway {gateway} serves MQTT on port {newPort} by now, and this device still goes to {port}.',
    cure: 'Join again, which fetches the new port.',
    command: 'nc -vz {host} {newPort}; nc -vz {host} {port}',
  },
  hub_changed: {
    severity: 'error',
    cause: 'The device belongs to the IoT Hub {newHub} by now, and its document names {hub}.',
    cure: 'Join again.',
    command: 'grep -o "HostName=[^;\\"]*" {state}/document.json',
  },
  trust_outdated: {
    severity: 'warning',
    cause: 'The API hands out trust bundle {newSequence} by now, and this device has {sequence}.',
    cure: 'Let the device fetch it before the gateway gets a certificate of a new root: join again, or let gatepost-device run refresh it.',
    command: 'curl -sI {api}/api/v1/trust-bundle | grep -i gatepost-sequence',
  },
});

const found = finder(agreementCodes);

/** The document and its connection string were compared when they were read: see the state folder. */
export const agreementCheck: Check = {
  name: 'agreement',
  title: "the gateway's configured name",
  needs: ['credential'],
  ownOnly: true,
  async run(context) {
    const { own, observe, common, host } = context;
    if (own === undefined) return { skippedFor: 'state' };
    if (isHubName(host)) return { skippedFor: 'peer' };
    const onboarding = await observe.onboarding();
    if ('unknown' in onboarding) return [found('agreement_unasked', common, { reason: onboarding.unknown })];
    if ('problem' in onboarding) {
      return [found('agreement_unasked', common, { reason: `it answers ${onboarding.status} ${onboarding.problem}` })];
    }
    const address = gatewayAddressOf(onboarding.document);
    // Another gateway has another name: the registration says so.
    if (address === undefined || address.id !== own.document.gateway.id) return { skippedFor: 'identity' };
    const findings = compare(context, own, address);
    return findings.length > 0 ? findings : [found('agreement_ok', common, {})];
  },
};

/**
 * The check that tells that the device has to go elsewhere by now: what it does not reach where it goes is no fault of
 * its own then. Undefined where it goes to the right place, or the API cannot say.
 */
export async function movedBy({ own, observe, host, ports }: Context): Promise<CheckName | undefined> {
  const onboarding = own === undefined ? undefined : await observe.onboarding();
  if (own === undefined || onboarding === undefined || !('document' in onboarding)) return undefined;
  const now = gatewayAddressOf(onboarding.document);
  if (now === undefined) return undefined;
  if (now.id !== own.document.gateway.id) return 'identity';
  return now.host !== host || now.mqtt !== ports.mqtt ? 'agreement' : undefined;
}

type Address = NonNullable<ReturnType<typeof gatewayAddressOf>>;

function compare({ common, host, ports }: Context, { document, string }: Own, now: Address): Finding[] {
  const findings: Finding[] = [];
  if (now.hub !== string.hub) findings.push(found('hub_changed', common, { newHub: now.hub }));
  if (now.host !== host) findings.push(found('gateway_renamed', common, { newName: now.host }));
  else if (now.mqtt !== ports.mqtt)
    findings.push(found('gateway_port_changed', common, { newPort: now.mqtt ?? 'none' }));
  const { sequence } = document.trust;
  if (now.sequence > sequence) {
    findings.push(found('trust_outdated', common, { sequence, newSequence: now.sequence }));
  }
  return findings;
}
