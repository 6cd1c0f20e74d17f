import { randomBytes, randomUUID } from 'node:crypto';

/** An application registered in the tenant, with the app roles it was assigned on the Gatepost API. */
export interface EntraClient {
  name: string;
  clientId: string;
  clientSecret: string;
  /** The object id of the application's service principal: what role assignments name. */
  objectId: string;
  roles: string[];
}

const rolesByName = {
  operator: ['Trust.Read', 'Trust.Manage', 'Fleet.Read', 'Fleet.Provision', 'Credential.Issue', 'Audit.Read'],
  factory: ['Fleet.Read', 'Fleet.Provision', 'Credential.Issue', 'Trust.Read'],
  reader: ['Fleet.Read', 'Trust.Read'],
  nobody: [],
};

/** The applications of a new tenant, one for each kind of caller, with fresh secrets. */
export function newClients(): EntraClient[] {
  return Object.entries(rolesByName).map(([name, roles]) => ({
    name,
    clientId: randomUUID(),
    // Entra ID's secrets are 40 characters and may hold `~`, `.`, `_` and `-`, which form encoding must survive.
    clientSecret: `${randomBytes(2).toString('hex').slice(0, 3)}8Q~${randomBytes(26).toString('base64url').slice(0, 33)}.`,
    objectId: randomUUID(),
    roles,
  }));
}
