import type { CredentialKind } from '../credentials/issue.ts';
import type { Caller } from '../http/route.ts';

/** What somebody did. */
export type AuditAction =
  | 'root.import'
  | 'root.delete'
  | 'gateway.put'
  | 'gateway.delete'
  | 'device.put'
  | 'device.delete'
  | 'device.onboard'
  | 'module.put'
  | 'module.delete'
  | 'key.rotate'
  | 'credential.issue'
  | 'credential.refresh'
  | 'join_token.issue'
  | 'join_token.redeem';

/** To what it was done, and what was given out. */
export interface AuditSubject {
  deviceId?: string | undefined;
  moduleId?: string | null | undefined;
  gatewayId?: string | undefined;
  root?: string | undefined;
  credential?: CredentialKind | undefined;
}

export type AuditOutcome = 'succeeded' | 'refused' | 'failed';

/** Who did it, as an audit row and its partition name them. */
export interface AuditCaller {
  plane: string;
  id: string;
  name: string;
}

/** How a route is audited. */
export interface AuditPolicy {
  action: AuditAction;
  /**
   * `change`: a row before anything is changed, without which nothing is, and one with the outcome. `act`: the same, but the route
   * says when, since only it knows whom it is about. `release`: nothing changes but a credential goes out: one row, before it does.
   */
  when: 'change' | 'act' | 'release';
  /**
   * Where the row of a release cannot be written. `log`: the credential goes out, and the log carries what the row would have:
   * for a device that renews its own, which a fault of storage must not put out of work. Default: it does not go out.
   */
  otherwise?: 'refuse' | 'log';
  /** Of the path and the body, both parsed. */
  // biome-ignore lint/suspicious/noExplicitAny: a route has forgotten the types of its schemas where this is called.
  subject(request: { params: any; body: any; caller: Caller }): AuditSubject;
}

/** Names a caller. Whoever holds a join token is known only as the holder of a token of that device. */
export function auditCaller(caller: Caller, subject: AuditSubject): AuditCaller {
  switch (caller.plane) {
    case 'operator':
      return { plane: 'operator', id: caller.objectId, name: caller.name };
    case 'device': {
      const id = caller.moduleId === null ? caller.deviceId : `${caller.deviceId}/${caller.moduleId}`;
      return { plane: 'device', id: `device:${id}`, name: id };
    }
    default:
      return { plane: caller.plane, id: `${caller.plane}:${subject.deviceId ?? ''}`, name: '' };
  }
}
