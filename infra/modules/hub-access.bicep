// What the app may do in the hub, be it new or brought.

@description('Name of the hub.')
@minLength(3)
@maxLength(50)
param name string

@description('Object id of the identity that the app has for its own.')
@minLength(36)
@maxLength(36)
param apiPrincipalId string

var roles = loadJsonContent('../roles.json')
var assigned = [
  roles.iotHubRegistryContributor
  roles.iotHubTwinContributor
]

resource hub 'Microsoft.Devices/IotHubs@2023-06-30' existing = {
  name: name
}

resource access 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for role in assigned: {
  name: guid(hub.id, apiPrincipalId, role.id)
  scope: hub
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role.id)
    principalId: apiPrincipalId
    principalType: 'ServicePrincipal'
    description: role.why
  }
}]

@description('Resource id of the hub.')
output id string = hub.id

@description('Host name of the hub.')
output hostname string = hub.properties.hostName
