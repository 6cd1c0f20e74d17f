// An IoT Hub whose service side knows no keys, and whose devices do.

@description('Region.')
@minLength(3)
param location string

@description('Tags of every resource.')
param tags object

@description('Name of the hub.')
@minLength(3)
@maxLength(50)
param name string

@description('Tier.')
@allowed([
  'F1'
  'S1'
  'S2'
  'S3'
])
param sku string

@description('Units.')
@minValue(1)
@maxValue(200)
param units int

@description('Address ranges that may reach the hub. Empty: all.')
@maxLength(100)
param allowedIpRanges array

@description('Resource id of the Log Analytics workspace.')
@minLength(1)
param workspaceId string

resource hub 'Microsoft.Devices/IotHubs@2023-06-30' = {
  name: name
  location: location
  tags: tags
  sku: {
    name: sku
    capacity: units
  }
  properties: {
    // Services come with a token of Entra ID: there is no hub-wide key that could leak.
    disableLocalAuth: true
    // Devices sign with keys of their own: a gateway-aware connection string holds one. edgeAgent and edgeHub of every
    // gateway are modules with such keys. With either of these true no gateway could connect.
    disableDeviceSAS: false
    disableModuleSAS: false
    minTlsVersion: '1.2'
    publicNetworkAccess: 'Enabled'
    networkRuleSets: {
      applyToBuiltInEventHubEndpoint: true
      defaultAction: empty(allowedIpRanges) ? 'Allow' : 'Deny'
      ipRules: [for (block, index) in allowedIpRanges: {
        filterName: 'allowed-${index}'
        action: 'Allow'
        ipMask: block
      }]
    }
  }
}

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'gatepost'
  scope: hub
  properties: {
    workspaceId: workspaceId
    // What Gatepost changes, and who connects. The other categories grow with every message.
    logs: [
      {
        category: 'Connections'
        enabled: true
      }
      {
        category: 'DeviceIdentityOperations'
        enabled: true
      }
      {
        category: 'C2DTwinOperations'
        enabled: true
      }
    ]
    metrics: [
      {
        category: 'AllMetrics'
        enabled: true
      }
    ]
  }
}
