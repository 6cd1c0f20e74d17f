import type { IdentityManager } from './identity-manager.ts';
import { authorityOf, type Principal } from './principals.ts';
import { type Answer, type Call, fields, invalidParameter, ServiceError, type ServiceRoute, text } from './routing.ts';

export interface IdentitydContext {
  manager: IdentityManager;
  principals(): readonly Principal[];
}

export const identitydVersions = ['2020-09-01', '2021-12-01', '2022-08-01'] as const;

type Operation =
  | { kind: 'getDevice' }
  | { kind: 'getModule'; moduleId: string }
  /** List, create, update and delete modules, and reprovision. */
  | { kind: 'manage' };

/** The Identity Service (identity/aziot-identityd/src/lib.rs and src/http). */
export function identitydRoutes({ manager, principals }: IdentitydContext): ServiceRoute[] {
  const isAllowed = (call: Call, operation: Operation): boolean => {
    const authority = authorityOf(principals(), call.uid);
    if (authority.kind === 'daemon' || authority.kind === 'root') return true;
    if (authority.kind === 'unknown') return false;
    if (operation.kind === 'getDevice') return authority.idtype.includes('device');
    if (operation.kind === 'manage' || operation.moduleId !== authority.name) return false;
    return authority.idtype.includes('module') || authority.idtype.includes('local');
  };
  const require = (call: Call, operation: Operation) => {
    if (!isAllowed(call, operation)) throw new ServiceError(401, 'authorization error');
  };
  /** One request after the other: the daemon holds one lock over all of its state. */
  const alone = (work: () => Promise<object | undefined>): Promise<Answer> =>
    manager.alone(async () => {
      const body = await work();
      return body === undefined ? { status: 204 } : { status: 200, body };
    });
  const id = (call: Call) => call.params.id ?? '';
  return [
    {
      path: '/identities/identity',
      get: (call) =>
        alone(async () => {
          if (isAllowed(call, { kind: 'getDevice' })) return manager.device();
          const authority = authorityOf(principals(), call.uid);
          if (authority.kind !== 'host') throw new ServiceError(401, 'authorization error');
          require(call, { kind: 'getModule', moduleId: authority.name });
          return manager.module(authority.name);
        }),
    },
    {
      path: '/identities/device',
      post: (call) => {
        // The type must be there; what it says is not looked at.
        text(call, fields(call, 'type').type);
        return alone(async () => {
          require(call, { kind: 'getDevice' });
          return manager.device();
        });
      },
    },
    {
      path: '/identities/device/reprovision',
      post: (call) =>
        alone(async () => {
          require(call, { kind: 'manage' });
          await manager.reprovision();
          return undefined;
        }),
    },
    { path: '/identities/provisioning', since: '2021-12-01', get: () => alone(async () => manager.provisioning()) },
    {
      path: '/identities/modules',
      get: (call) =>
        alone(async () => {
          require(call, { kind: 'manage' });
          requireAziot(call.query.get('type'));
          return { identities: await manager.modules() };
        }),
      post: (call) => {
        const { type, moduleId } = fields(call, 'type', 'moduleId');
        const [of, name] = [text(call, type), text(call, moduleId)];
        return alone(async () => {
          require(call, { kind: 'manage' });
          requireAziot(of);
          return manager.createModule(name);
        });
      },
    },
    {
      path: '/identities/modules/{id}',
      get: (call) =>
        alone(async () => {
          require(call, { kind: 'getModule', moduleId: id(call) });
          requireAziot(call.query.get('type'));
          return manager.module(id(call));
        }),
      put: (call) =>
        alone(async () => {
          require(call, { kind: 'manage' });
          requireAziot(call.query.get('type'));
          return manager.updateModule(id(call));
        }),
      delete: (call) =>
        alone(async () => {
          require(call, { kind: 'manage' });
          requireAziot(call.query.get('type'));
          await manager.deleteModule(id(call));
          return undefined;
        }),
    },
    // A stub in the real one too: the bundle is a certificate of certd.
    { path: '/trust-bundle', get: () => alone(async () => ({ certificate: '' })) },
  ];
}

/** `local` identities need [localid], which this double has not. */
function requireAziot(type: string | null): void {
  if (type === 'aziot') return;
  throw invalidParameter('type', type === null ? 'missing parameter' : `invalid value: ${type}`);
}
