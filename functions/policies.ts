import type { ProblemCode } from '../lib/errors.ts';
import type { Access } from '../lib/http/route.ts';

export const fleetReaders: Access = { plane: 'operator', roles: ['Fleet.Read', 'Fleet.Provision'] };
export const fleetWriters: Access = { plane: 'operator', roles: ['Fleet.Provision'] };
export const auditReaders: Access = { plane: 'operator', roles: ['Audit.Read'] };
export const credentialIssuers: Access = { plane: 'operator', roles: ['Credential.Issue'] };

/** What any call that talks to the hub can meet. */
export const hubProblems: readonly ProblemCode[] = [
  'upstream_throttled',
  'upstream_unavailable',
  'upstream_timeout',
  'upstream_refused',
];
