// What the two identities of the app may do in the vault, be it new or brought.

@description('Name of the vault.')
@minLength(3)
@maxLength(24)
param name string

@description('Object id of the identity that reads.')
@minLength(36)
@maxLength(36)
param apiPrincipalId string

@description('Object id of the identity that manages.')
@minLength(36)
@maxLength(36)
param trustManagerPrincipalId string

var roles = loadJsonContent('../roles.json')
var managing = [
  roles.keyVaultSecretsOfficer
  roles.keyVaultCertificatesOfficer
]

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' existing = {
  name: name
}

resource reads 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(vault.id, apiPrincipalId, roles.keyVaultCertificateUser.id)
  scope: vault
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.keyVaultCertificateUser.id)
    principalId: apiPrincipalId
    principalType: 'ServicePrincipal'
    description: roles.keyVaultCertificateUser.why
  }
}

resource manages 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for role in managing: {
  name: guid(vault.id, trustManagerPrincipalId, role.id)
  scope: vault
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role.id)
    principalId: trustManagerPrincipalId
    principalType: 'ServicePrincipal'
    description: role.why
  }
}]

@description('Resource id of the vault.')
output id string = vault.id

@description('URL of the vault.')
output url string = vault.properties.vaultUri
