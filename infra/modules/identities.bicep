// Who the app is. Two identities, so that what reads the vault for devices cannot change what it holds.

@description('Region.')
@minLength(3)
param location string

@description('Tags of every resource.')
param tags object

@description('Makes names unique.')
@minLength(5)
@maxLength(13)
param suffix string

resource api 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'id-gatepost-${suffix}'
  location: location
  tags: tags
}

resource trustManager 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'id-gatepost-trust-${suffix}'
  location: location
  tags: tags
}

@description('Resource id of the app\'s own identity.')
output apiIdentityId string = api.id

@description('Client id of the app\'s own identity.')
output apiClientId string = api.properties.clientId

@description('Object id of the app\'s own identity: what role assignments name.')
output apiPrincipalId string = api.properties.principalId

@description('Resource id of the identity that manages trust.')
output trustManagerIdentityId string = trustManager.id

@description('Client id of the identity that manages trust.')
output trustManagerClientId string = trustManager.properties.clientId

@description('Object id of the identity that manages trust.')
output trustManagerPrincipalId string = trustManager.properties.principalId
