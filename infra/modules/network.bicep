// The network of the prod profile: the app's subnet, the endpoints' subnet, and one address for everything that goes out.

@description('Region.')
@minLength(3)
param location string

@description('Tags of every resource.')
param tags object

@description('Makes names unique.')
@minLength(5)
@maxLength(13)
param suffix string

@description('Resource id of the Log Analytics workspace.')
@minLength(1)
param workspaceId string

resource egress 'Microsoft.Network/publicIPAddresses@2024-05-01' = {
  name: 'pip-gatepost-${suffix}'
  location: location
  tags: tags
  sku: {
    name: 'Standard'
  }
  zones: [
    '1'
    '2'
    '3'
  ]
  properties: {
    publicIPAllocationMethod: 'Static'
  }
}

// The hub stays on the Internet, where gateways are: its IP rules need an address by which to know the API.
resource nat 'Microsoft.Network/natGateways@2024-05-01' = {
  name: 'ng-gatepost-${suffix}'
  location: location
  tags: tags
  sku: {
    name: 'Standard'
  }
  properties: {
    publicIpAddresses: [
      {
        id: egress.id
      }
    ]
  }
}

resource network 'Microsoft.Network/virtualNetworks@2024-05-01' = {
  name: 'vnet-gatepost-${suffix}'
  location: location
  tags: tags
  properties: {
    addressSpace: {
      addressPrefixes: [
        '10.80.0.0/16'
      ]
    }
    // Subnets are part of their network: as resources of their own they would be deleted and made anew by an update of it.
    subnets: [
      {
        name: 'app'
        properties: {
          addressPrefix: '10.80.0.0/23'
          defaultOutboundAccess: false
          natGateway: {
            id: nat.id
          }
          delegations: [
            {
              name: 'functions'
              properties: {
                serviceName: 'Microsoft.App/environments'
              }
            }
          ]
        }
      }
      {
        name: 'endpoints'
        properties: {
          addressPrefix: '10.80.2.0/26'
          defaultOutboundAccess: false
          privateEndpointNetworkPolicies: 'Disabled'
        }
      }
    ]
  }
}

resource appSubnet 'Microsoft.Network/virtualNetworks/subnets@2024-05-01' existing = {
  parent: network
  name: 'app'
}

resource endpointSubnet 'Microsoft.Network/virtualNetworks/subnets@2024-05-01' existing = {
  parent: network
  name: 'endpoints'
}

resource networkDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'gatepost'
  scope: network
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        categoryGroup: 'allLogs'
        enabled: true
      }
    ]
  }
}

resource egressDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'gatepost'
  scope: egress
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        categoryGroup: 'allLogs'
        enabled: true
      }
    ]
  }
}

@description('Resource id of the network.')
output networkId string = network.id

@description('Resource id of the subnet that the app goes out by.')
output appSubnetId string = appSubnet.id

@description('Resource id of the subnet of the private endpoints.')
output endpointSubnetId string = endpointSubnet.id

@description('Address from which the app calls.')
output egressAddress string = egress.properties.ipAddress
