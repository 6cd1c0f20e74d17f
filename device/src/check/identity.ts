import type { Check, Context, Own } from './context.ts';
import { defineCodes, type Finding, finder } from './findings.ts';

export const identityCodes = defineCodes({
  identity_ok: {
    severity: 'ok',
    cause: 'The API knows {device} by its credential, and has it behind gateway {gateway}.',
    cure: 'Nothing needs to be done.',
    command: 'gatepost-device check --state {state} --json',
  },
  identity_unasked: {
    severity: 'info',
    cause: 'Whether {device} is registered behind this gateway could not be asked: {reason}.',
    cure: 'Run this where the API can be reached, or have an operator look.',
    command: 'curl -s -H "Authorization: Bearer TOKEN" {api}/api/v1/devices/ID',
  },
  identity_not_accepted: {
    severity: 'error',
    cause: 'The API does not accept the credential of {device}, and tells nobody which of three reasons it has.',
    cure: 'Have an operator look at the device: enable it, onboard it again, or, where its key was rotated, join again.',
    command: 'curl -s -H "Authorization: Bearer TOKEN" {api}/api/v1/devices/ID',
    likely: [
      'its key was rotated, so that what is stored here is the old one',
      'the device is disabled',
      'the device was deleted, or deleted and made anew, which gives it new keys',
    ],
  },
  identity_disabled: {
    severity: 'error',
    cause: '{device} is disabled.',
    cure: 'Have an operator enable it: PUT /api/v1/devices/ID with "enabled": true.',
    command: 'curl -s -H "Authorization: Bearer TOKEN" {api}/api/v1/devices/ID',
  },
  identity_without_gateway: {
    severity: 'error',
    cause: '{device} stands behind no gateway any more: gateway {gateway} was deleted, made anew, or unlinked from it.',
    cure: 'Have an operator onboard it again: POST /api/v1/devices/ID/onboard names its gateway.',
    command: 'curl -s -H "Authorization: Bearer TOKEN" {api}/api/v1/devices/ID',
  },
  identity_behind_other_gateway: {
    severity: 'error',
    cause: '{device} stands behind gateway {other} now, and this state folder leads to {gateway}.',
    cure: 'Join again, which fetches the new way in; or have an operator move the device back.',
    command: 'curl -s -H "Authorization: Bearer TOKEN" {api}/api/v1/devices/ID',
  },
  identity_unusable: {
    severity: 'error',
    cause: 'The API cannot serve {device} as it is: {problem}.',
    cure: 'Have an operator look at the device and at its gateway: {detail}',
    command: 'curl -s -H "Authorization: Bearer TOKEN" {api}/api/v1/devices/ID',
  },
});

const found = finder(identityCodes);

/**
 * edgeHub answers the same to all that it does not let in. The API can be asked in its place: it takes the same
 * credential, and says of a device that has proven itself what is the matter with it.
 */
export const identityCheck: Check = {
  name: 'identity',
  title: 'the registration of this device',
  needs: ['credential'],
  ownOnly: true,
  async run(context) {
    const { own, observe } = context;
    if (own === undefined) return { skippedFor: 'state' };
    const onboarding = await observe.onboarding();
    if ('unknown' in onboarding) return [found('identity_unasked', context.common, { reason: onboarding.unknown })];
    if ('problem' in onboarding) return [problem(context, onboarding)];
    return [judge(context, own, onboarding.document)];
  },
};

function problem({ common }: Context, answer: { problem: string; detail: string; status: number }): Finding {
  if (answer.problem === 'device_token_invalid') return found('identity_not_accepted', common, {}, [answer.detail]);
  if (answer.problem === 'device_disabled') return found('identity_disabled', common, {});
  if (answer.problem === 'device_has_no_gateway') return found('identity_without_gateway', common, {});
  // What the API or the hub suffers from is no fault of the device.
  if (answer.status === 429 || answer.status >= 500) {
    return found('identity_unasked', common, { reason: `${common.api} answers ${answer.status} ${answer.problem}` });
  }
  return found('identity_unusable', common, { problem: answer.problem, detail: answer.detail });
}

function judge({ common }: Context, { document }: Own, answered: Record<string, unknown>): Finding {
  const { id } = (answered.gateway ?? {}) as { id?: unknown };
  if (typeof id === 'string' && id !== document.gateway.id) {
    return found('identity_behind_other_gateway', common, { other: id });
  }
  return found('identity_ok', common, {});
}
