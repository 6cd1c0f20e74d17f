// Gatepost in one resource group of a subscription: what it runs on, who it is there, and who hears of trouble.
// Only plain resource declarations: the whole tree compiles without the network.
targetScope = 'subscription'

@description('Name of this installation. Resource names are derived from it.')
@minLength(1)
@maxLength(32)
param environmentName string

@description('Region of everything that is deployed here.')
@minLength(3)
@maxLength(40)
@metadata({
  azd: {
    type: 'location'
  }
})
param location string

@description('dev: cheap, reachable from the Internet, scales to zero. prod: zone redundant, vault and storage on private endpoints only, instances that are always ready.')
@allowed([
  'dev'
  'prod'
])
param profile string = 'dev'

@description('Client id of the app registration of the API: infra/entra/setup.ts makes it, as a hook of azd.')
@minLength(36)
@maxLength(36)
param apiClientId string

@description('Tier of a new IoT Hub. Gateways need a standard tier, and the free one takes 8,000 messages a day.')
@allowed([
  'F1'
  'S1'
  'S2'
  'S3'
])
param hubSku string = 'S1'

@description('Units of a new IoT Hub. Each S1 or S2 unit allows 100 registry operations a minute, each S3 unit 5,000.')
@minValue(1)
@maxValue(200)
param hubUnits int = 1

@description('Address ranges in CIDR notation that may reach a new IoT Hub, for gateways that leave their site by fixed addresses. Empty: from anywhere. In the prod profile only, where the API calls from a fixed address, which is added.')
@maxLength(90)
param hubAllowedIpRanges array = []

@description('Resource id of an IoT Hub to use. Empty: a new one is made. It may be in another resource group or subscription of the tenant.')
@maxLength(400)
param existingHubResourceId string = ''

@description('Resource id of a Key Vault to use, which has to grant access by Azure RBAC. Empty: a new one is made. It may be in another resource group or subscription of the tenant.')
@maxLength(400)
param existingVaultResourceId string = ''

@description('Days for which a deleted secret or certificate of a new vault can be recovered, and not be purged.')
@minValue(7)
@maxValue(90)
param vaultSoftDeleteDays int = 90

@description('Memory of an instance of the app, in MB.')
@allowed([
  512
  2048
  4096
])
param instanceMemoryMB int = 2048

@description('Most instances of the app at once: it bounds the cost, and the load on the hub.')
@minValue(40)
@maxValue(1000)
param maximumInstanceCount int = 100

@description('HTTP requests that one instance serves at once.')
@minValue(1)
@maxValue(1000)
param httpConcurrency int = 32

@description('Instances for HTTP that are always running, in the prod profile. Two are what zone redundancy takes.')
@minValue(2)
@maxValue(20)
param alwaysReadyInstances int = 2

@description('Seconds after which a device should look at the trust bundle again.')
@minValue(60)
@maxValue(2592000)
param refreshHintSeconds int = 3600

@description('Seconds between two looks of an instance at whether the trust bundle has changed.')
@minValue(1)
@maxValue(86400)
param trustCheckSeconds int = 30

@description('Seconds for which an instance remembers a gateway.')
@minValue(0)
@maxValue(86400)
param gatewayCacheSeconds int = 60

@description('Milliseconds that one call to an Azure service may take.')
@minValue(100)
@maxValue(60000)
param upstreamTimeoutMs int = 10000

@description('Days for which the audit log is kept at least; it is deleted by whole months.')
@minValue(1)
@maxValue(3650)
param auditRetentionDays int = 365

@description('Calls a minute for one device: its own, and those for its credentials. 0: no limit.')
@minValue(0)
@maxValue(1000000)
param deviceCallsPerMinute int = 120

@description('Calls a minute of one operator that give out credentials. 0: no limit.')
@minValue(0)
@maxValue(1000000)
param callerCallsPerMinute int = 1200

@description('Attempts a minute to redeem a join token from one address. 0: no limit.')
@minValue(0)
@maxValue(1000000)
param joinsPerMinute int = 600

@description('Days for which logs are kept.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 90

@description('GB of logs a day after which no more are taken until the next day; -1 for no limit.')
@minValue(-1)
@maxValue(1000)
param logDailyQuotaGb int = -1

@description('Mail address that alerts go to. Empty: they are shown in the portal only.')
@maxLength(254)
param alertEmail string = ''

@description('Failed attempts to join within 15 minutes that raise an alert.')
@minValue(1)
@maxValue(100000)
param failedJoinsThreshold int = 20

var isProd = profile == 'prod'
var suffix = toLower(uniqueString(subscription().id, environmentName, location))
var tags = {
  'azd-env-name': environmentName
}
var resourceGroupName = 'rg-gatepost-${environmentName}'

var hasOwnHub = empty(existingHubResourceId)
var hubName = hasOwnHub ? 'iot-gatepost-${suffix}' : last(split(existingHubResourceId, '/'))
var hubSubscriptionId = hasOwnHub ? subscription().subscriptionId : split(existingHubResourceId, '/')[2]
var hubResourceGroupName = hasOwnHub ? resourceGroupName : split(existingHubResourceId, '/')[4]

var hasOwnVault = empty(existingVaultResourceId)
var vaultName = hasOwnVault ? 'kv-gp-${suffix}' : last(split(existingVaultResourceId, '/'))
var vaultSubscriptionId = hasOwnVault ? subscription().subscriptionId : split(existingVaultResourceId, '/')[2]
var vaultResourceGroupName = hasOwnVault ? resourceGroupName : split(existingVaultResourceId, '/')[4]

resource group 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: resourceGroupName
  location: location
  tags: tags
}

module identities 'modules/identities.bicep' = {
  name: 'gatepost-identities'
  scope: group
  params: {
    location: location
    tags: tags
    suffix: suffix
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'gatepost-monitoring'
  scope: group
  params: {
    location: location
    tags: tags
    suffix: suffix
    retentionDays: logRetentionDays
    dailyQuotaGb: logDailyQuotaGb
    apiPrincipalId: identities.outputs.apiPrincipalId
  }
}

module network 'modules/network.bicep' = if (isProd) {
  name: 'gatepost-network'
  scope: group
  params: {
    location: location
    tags: tags
    suffix: suffix
    workspaceId: monitoring.outputs.workspaceId
  }
}

module storage 'modules/storage.bicep' = {
  name: 'gatepost-storage'
  scope: group
  params: {
    location: location
    tags: tags
    name: 'stgp${suffix}'
    isPrivate: isProd
    sku: isProd ? 'Standard_ZRS' : 'Standard_LRS'
    apiPrincipalId: identities.outputs.apiPrincipalId
    workspaceId: monitoring.outputs.workspaceId
  }
}

module ownVault 'modules/vault.bicep' = if (hasOwnVault) {
  name: 'gatepost-vault'
  scope: group
  params: {
    location: location
    tags: tags
    name: vaultName
    isPrivate: isProd
    softDeleteDays: vaultSoftDeleteDays
    workspaceId: monitoring.outputs.workspaceId
  }
}

module vault 'modules/vault-access.bicep' = {
  name: 'gatepost-vault-access'
  scope: resourceGroup(vaultSubscriptionId, vaultResourceGroupName)
  params: {
    name: vaultName
    apiPrincipalId: identities.outputs.apiPrincipalId
    trustManagerPrincipalId: identities.outputs.trustManagerPrincipalId
  }
  dependsOn: [
    ownVault
  ]
}

module ownHub 'modules/hub.bicep' = if (hasOwnHub) {
  name: 'gatepost-hub'
  scope: group
  params: {
    location: location
    tags: tags
    name: hubName
    sku: hubSku
    units: hubUnits
    allowedIpRanges: isProd && !empty(hubAllowedIpRanges) ? union(hubAllowedIpRanges, [
      '${network!.outputs.egressAddress}/32'
    ]) : []
    workspaceId: monitoring.outputs.workspaceId
  }
}

module hub 'modules/hub-access.bicep' = {
  name: 'gatepost-hub-access'
  scope: resourceGroup(hubSubscriptionId, hubResourceGroupName)
  params: {
    name: hubName
    apiPrincipalId: identities.outputs.apiPrincipalId
  }
  dependsOn: [
    ownHub
  ]
}

module privateEndpoints 'modules/private-endpoints.bicep' = if (isProd) {
  name: 'gatepost-private-endpoints'
  scope: group
  params: {
    location: location
    tags: tags
    suffix: suffix
    networkId: network!.outputs.networkId
    subnetId: network!.outputs.endpointSubnetId
    storageId: storage.outputs.id
    vaultId: vault.outputs.id
  }
}

module app 'modules/function-app.bicep' = {
  name: 'gatepost-app'
  scope: group
  params: {
    location: location
    tags: tags
    suffix: suffix
    storageName: storage.outputs.name
    deploymentContainerName: storage.outputs.deploymentContainerName
    componentName: monitoring.outputs.componentName
    workspaceId: monitoring.outputs.workspaceId
    apiIdentityId: identities.outputs.apiIdentityId
    apiIdentityClientId: identities.outputs.apiClientId
    trustManagerIdentityId: identities.outputs.trustManagerIdentityId
    trustManagerClientId: identities.outputs.trustManagerClientId
    apiClientId: apiClientId
    hubHostname: hub.outputs.hostname
    vaultUrl: vault.outputs.url
    refreshHintSeconds: refreshHintSeconds
    trustCheckSeconds: trustCheckSeconds
    gatewayCacheSeconds: gatewayCacheSeconds
    upstreamTimeoutMs: upstreamTimeoutMs
    auditRetentionDays: auditRetentionDays
    deviceCallsPerMinute: deviceCallsPerMinute
    callerCallsPerMinute: callerCallsPerMinute
    joinsPerMinute: joinsPerMinute
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    httpConcurrency: httpConcurrency
    zoneRedundant: isProd
    alwaysReadyInstances: isProd ? alwaysReadyInstances : 0
    subnetId: isProd ? network!.outputs.appSubnetId : ''
  }
  dependsOn: [
    privateEndpoints
  ]
}

module queries 'modules/queries.bicep' = {
  name: 'gatepost-queries'
  scope: group
  params: {
    location: location
    tags: tags
    workspaceName: monitoring.outputs.workspaceName
  }
}

module alerts 'modules/alerts.bicep' = {
  name: 'gatepost-alerts'
  scope: group
  params: {
    location: location
    tags: tags
    suffix: suffix
    workspaceId: monitoring.outputs.workspaceId
    hubId: hub.outputs.id
    email: alertEmail
    failedJoinsThreshold: failedJoinsThreshold
  }
}

@description('Resource group that holds everything but a hub or a vault that was brought.')
output AZURE_RESOURCE_GROUP string = resourceGroupName

@description('Name of the function app: what `azd deploy` and `az functionapp` take.')
output SERVICE_API_NAME string = app.outputs.name

@description('Base URL of the API.')
output GATEPOST_API_URL string = app.outputs.url

@description('What a caller asks a token for, with /.default behind it.')
output GATEPOST_API_AUDIENCE string = 'api://${apiClientId}'

@description('Host name of the IoT Hub: HostName in connection strings.')
output GATEPOST_HUB_HOSTNAME string = hub.outputs.hostname

@description('URL of the Key Vault that holds the roots.')
output GATEPOST_VAULT_URL string = vault.outputs.url

@description('Address from which the API calls, for the IP rules of a hub that was brought. Empty in the dev profile, which has no fixed one.')
output GATEPOST_EGRESS_ADDRESS string = isProd ? network!.outputs.egressAddress : ''

@description('Name of the Log Analytics workspace.')
output GATEPOST_WORKSPACE_NAME string = monitoring.outputs.workspaceName
