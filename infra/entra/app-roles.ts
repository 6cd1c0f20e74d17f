/** A role of the API as the app registration has it. */
export interface AppRole {
  id: string;
  value: string;
  displayName: string;
  description: string;
  allowedMemberTypes: string[];
  isEnabled: boolean;
}

function role(id: string, value: string, displayName: string, description: string): AppRole {
  return { id, value, displayName, description, allowedMemberTypes: ['User', 'Application'], isEnabled: true };
}

/** What operators and pipelines may be allowed. The ids are ours, and the same in every tenant. */
export const appRoles: readonly AppRole[] = [
  role('ce3ca909-c5cf-4695-8f94-006904ab71d6', 'Trust.Read', 'Read trust', 'Reads the roots of the trust bundle.'),
  role(
    'fd802377-79f1-4a5f-8ae4-b354f6862662',
    'Trust.Manage',
    'Manage trust',
    'Imports and deletes roots: decides whom all devices trust.',
  ),
  role('3cefdd18-b8c8-45bf-aae0-4675c91daf88', 'Fleet.Read', 'Read the fleet', 'Reads gateways, devices and modules.'),
  role(
    '09eeae26-6b36-40a0-b28b-9ee2b819fb29',
    'Fleet.Provision',
    'Provision the fleet',
    'Makes, changes, moves and deletes gateways, devices and modules, and onboards devices.',
  ),
  role(
    '2e5ec7b5-6a9d-4ba0-afbf-f49dd11c0108',
    'Credential.Issue',
    'Issue credentials',
    'Issues connection strings and join tokens, and rolls keys of devices.',
  ),
  role(
    '7b0d5b3c-5f0f-4a0b-9b51-0c8a4f1f7c2e',
    'Audit.Read',
    'Read the audit log',
    'Reads who changed what, and to whom credentials were given.',
  ),
];

/** What a factory needs to bring its devices online. `Fleet.Provision` includes `Fleet.Read`. */
export const factoryRoles: readonly string[] = ['Fleet.Provision', 'Credential.Issue'];

/** The scope by which people sign in for the API: what they may do is a matter of their roles. */
export const signInScope = {
  id: '24582a88-8aa3-4da2-a2f8-052f2f7aa283',
  value: 'access',
  type: 'User',
  isEnabled: true,
  adminConsentDisplayName: 'Call Gatepost',
  adminConsentDescription: 'Calls Gatepost as the person who is signed in, with the roles of that person.',
  userConsentDisplayName: 'Call Gatepost',
  userConsentDescription: 'Calls Gatepost as you, with your roles.',
};

/** Azure CLI, so that `az account get-access-token` gets an operator's token (its well-known client id). */
export const azureCli = '04b07795-8ddb-461a-bbee-02f9e1bf7b46';
