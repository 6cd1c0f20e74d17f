/** The built-in roles of the data plane that the double knows. */
export type VaultRole =
  | 'Key Vault Administrator'
  | 'Key Vault Secrets Officer'
  | 'Key Vault Secrets User'
  | 'Key Vault Certificates Officer'
  | 'Key Vault Certificate User'
  | 'Key Vault Crypto Officer'
  | 'Key Vault Crypto User'
  | 'Key Vault Reader';

export interface RoleAssignment {
  objectId: string;
  role: VaultRole;
}

/** The `dataActions` of each role below `Microsoft.KeyVault/vaults/`, from its built-in role definition. */
const dataActions: Record<VaultRole, string[]> = {
  'Key Vault Administrator': ['*'],
  'Key Vault Secrets Officer': ['secrets/*'],
  'Key Vault Secrets User': ['secrets/getSecret/action', 'secrets/readMetadata/action'],
  'Key Vault Certificates Officer': ['certificatecas/*', 'certificates/*', 'certificatecontacts/write'],
  'Key Vault Certificate User': [
    'certificates/read',
    'secrets/getSecret/action',
    'secrets/readMetadata/action',
    'keys/read',
  ],
  'Key Vault Crypto Officer': ['keys/*', 'keyrotationpolicies/*'],
  'Key Vault Crypto User': [
    'keys/read',
    'keys/update/action',
    'keys/backup/action',
    'keys/encrypt/action',
    'keys/decrypt/action',
    'keys/wrap/action',
    'keys/unwrap/action',
    'keys/sign/action',
    'keys/verify/action',
  ],
  'Key Vault Reader': ['*/read', 'secrets/readMetadata/action'],
};

/** Tells whether a role grants `action`. In a definition `*` stands for any text, slashes included. */
export function grants(role: VaultRole, action: string): boolean {
  return dataActions[role].some((granted) => {
    const pattern = granted.split('*').map((part) => part.replace(/[/.]/g, '\\$&'));
    return new RegExp(`^${pattern.join('.*')}$`, 'i').test(action);
  });
}
