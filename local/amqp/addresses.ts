import type { Identity } from '../mqtt/identity.ts';

/** What a link is for. `To` and `From` are as the device sees them. */
export type LinkKind =
  | 'cbs'
  | 'telemetry'
  | 'inputs'
  | 'cloudToDevice'
  | 'methodRequests'
  | 'methodResponses'
  | 'twinRequests'
  | 'twinAnswers';

export interface LinkAddress {
  kind: LinkKind;
  /** The address with its ids left out. */
  template: string;
  /** Whose link it is; absent on `$cbs`. */
  identity?: Identity;
}

interface Rule {
  template: string;
  /** The kind where the device sends, and where it receives. */
  sends?: LinkKind;
  receives?: LinkKind;
}

/** Azure/iotedge, edge-hub Amqp Templates.cs and LinkHandlerProvider.cs. */
const rules: Rule[] = [
  { template: '/$cbs', sends: 'cbs', receives: 'cbs' },
  { template: '/devices/{id}/messages/events', sends: 'telemetry' },
  { template: '/devices/{id}/modules/{moduleId}/messages/events', sends: 'telemetry', receives: 'inputs' },
  { template: '/devices/{id}/messages/deviceBound', receives: 'cloudToDevice' },
  { template: '/devices/{id}/modules/{moduleId}/messages/deviceBound', receives: 'cloudToDevice' },
  { template: '/devices/{id}/methods/deviceBound', sends: 'methodResponses', receives: 'methodRequests' },
  {
    template: '/devices/{id}/modules/{moduleId}/methods/deviceBound',
    sends: 'methodResponses',
    receives: 'methodRequests',
  },
  { template: '/devices/{id}/twin', sends: 'twinRequests', receives: 'twinAnswers' },
  { template: '/devices/{id}/modules/{moduleId}/twin', sends: 'twinRequests', receives: 'twinAnswers' },
];

/** As UriPathTemplate.cs compiles them: no matter the case, and anything may stand in front. */
const patterns = rules.map((rule) => ({ ...rule, pattern: compile(rule.template) }));

/** What a link to `address` is for; undefined where there is nothing like it. */
export function parseAddress(address: string, deviceSends: boolean): LinkAddress | undefined {
  const path = pathOf(address);
  for (const { template, sends, receives, pattern } of patterns) {
    const groups = pattern.exec(path);
    const kind = deviceSends ? sends : receives;
    if (groups === null || kind === undefined) continue;
    if (kind === 'cbs') return { kind, template };
    const identity = identityOf(groups.groups);
    return identity && { kind, template, identity };
  }
  return undefined;
}

/** Who the audience of a token names, such as `hub.example/devices/press-1` (CbsNode.cs, ParseIds). */
export function identityOfAudience(audience: string): Identity | undefined {
  const path = pathOf(`amqps://${audience.replace(/^amqps:\/\//i, '')}`);
  for (const template of ['/devices/{id}', '/devices/{id}/modules/{moduleId}']) {
    const groups = compile(template).exec(path);
    if (groups !== null) return identityOf(groups.groups);
  }
  return undefined;
}

function pathOf(address: string): string {
  const withoutHost = address.replace(/^amqps:\/\/[^/]*/i, '');
  const path = withoutHost.split(/[?#]/, 1)[0] ?? '';
  return path.startsWith('/') ? path : `/${path}`;
}

function compile(template: string): RegExp {
  const pattern = template
    .split(/(\{\w+\})/)
    .map((part) => (part.startsWith('{') ? `(?<${part.slice(1, -1)}>[^/]*)` : part.replace(/[$.]/g, '\\$&')))
    .join('');
  return new RegExp(`${pattern}$`, 'i');
}

function identityOf(groups: Record<string, string> | undefined): Identity | undefined {
  try {
    const deviceId = decodeURIComponent(groups?.id ?? '');
    const moduleId = groups?.moduleId === undefined ? null : decodeURIComponent(groups.moduleId);
    return deviceId === '' || moduleId === '' ? undefined : { deviceId, moduleId };
  } catch {
    return undefined;
  }
}
