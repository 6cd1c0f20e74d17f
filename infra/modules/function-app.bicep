// The API: a Flex Consumption plan, the app on it, its settings, and Easy Auth as the outer gate.

@description('Region.')
@minLength(3)
param location string

@description('Tags of every resource.')
param tags object

@description('Makes names unique.')
@minLength(5)
@maxLength(13)
param suffix string

@description('Name of the storage account.')
@minLength(3)
@maxLength(24)
param storageName string

@description('Container that holds the package of the app.')
@minLength(3)
param deploymentContainerName string

@description('Name of the Application Insights component.')
@minLength(1)
param componentName string

@description('Resource id of the Log Analytics workspace.')
@minLength(1)
param workspaceId string

@description('Resource id of the identity that the app has for its own.')
@minLength(1)
param apiIdentityId string

@description('Client id of the identity that the app has for its own.')
@minLength(36)
@maxLength(36)
param apiIdentityClientId string

@description('Resource id of the identity that manages trust.')
@minLength(1)
param trustManagerIdentityId string

@description('Client id of the identity that manages trust.')
@minLength(36)
@maxLength(36)
param trustManagerClientId string

@description('Client id of the app registration of the API: what operators\' tokens are for.')
@minLength(36)
@maxLength(36)
param apiClientId string

@description('Host name of the IoT Hub.')
@minLength(3)
param hubHostname string

@description('URL of the Key Vault.')
@minLength(8)
param vaultUrl string

@description('Seconds after which a device should look at the trust bundle again.')
@minValue(60)
@maxValue(2592000)
param refreshHintSeconds int

@description('Seconds between two looks at whether the trust bundle has changed.')
@minValue(1)
@maxValue(86400)
param trustCheckSeconds int

@description('Seconds for which an instance remembers a gateway.')
@minValue(0)
@maxValue(86400)
param gatewayCacheSeconds int

@description('Milliseconds that one call to an Azure service may take.')
@minValue(100)
@maxValue(60000)
param upstreamTimeoutMs int

@description('Days for which the audit log is kept at least; it is deleted by whole months.')
@minValue(1)
@maxValue(3650)
param auditRetentionDays int

@description('Calls a minute for one device: its own, and those for its credentials. 0: no limit.')
@minValue(0)
@maxValue(1000000)
param deviceCallsPerMinute int

@description('Calls a minute of one operator that give out credentials. 0: no limit.')
@minValue(0)
@maxValue(1000000)
param callerCallsPerMinute int

@description('Attempts a minute to redeem a join token from one address. 0: no limit.')
@minValue(0)
@maxValue(1000000)
param joinsPerMinute int

@description('Memory of an instance, in MB.')
@allowed([
  512
  2048
  4096
])
param instanceMemoryMB int

@description('Most instances at once.')
@minValue(40)
@maxValue(1000)
param maximumInstanceCount int

@description('HTTP requests that one instance serves at once.')
@minValue(1)
@maxValue(1000)
param httpConcurrency int

@description('Over several zones.')
param zoneRedundant bool

@description('Instances for HTTP that are always running; 0: none.')
@minValue(0)
@maxValue(20)
param alwaysReadyInstances int

@description('Resource id of the subnet to go out by. Empty: none.')
param subnetId string

// Operators' tokens are of version 2.0: the client id is their audience. The URI is what older clients may send.
var issuer = '${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0'
var audiences = [
  apiClientId
  'api://${apiClientId}'
]

// Every setting is read by somebody: GATEPOST_* and AZURE_CLIENT_ID by the app (docs/settings.md), the others by the
// Functions host. None is a secret.
var settings = {
  GATEPOST_HUB_HOSTNAME: hubHostname
  GATEPOST_VAULT_URL: vaultUrl
  GATEPOST_ENTRA_ISSUER: issuer
  GATEPOST_ENTRA_AUDIENCE: join(audiences, ',')
  GATEPOST_REFRESH_HINT_SECONDS: string(refreshHintSeconds)
  GATEPOST_TRUST_CHECK_SECONDS: string(trustCheckSeconds)
  GATEPOST_GATEWAY_CACHE_SECONDS: string(gatewayCacheSeconds)
  GATEPOST_UPSTREAM_TIMEOUT_MS: string(upstreamTimeoutMs)
  GATEPOST_AUDIT_RETENTION_DAYS: string(auditRetentionDays)
  GATEPOST_LIMIT_DEVICE_PER_MINUTE: string(deviceCallsPerMinute)
  GATEPOST_LIMIT_CALLER_PER_MINUTE: string(callerCallsPerMinute)
  GATEPOST_LIMIT_JOIN_PER_MINUTE: string(joinsPerMinute)
  GATEPOST_TRUST_MANAGER_CLIENT_ID: trustManagerClientId
  AZURE_CLIENT_ID: apiIdentityClientId
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: apiIdentityClientId
  AzureWebJobsStorage__blobServiceUri: storage.properties.primaryEndpoints.blob
  AzureWebJobsStorage__tableServiceUri: storage.properties.primaryEndpoints.table
  APPLICATIONINSIGHTS_CONNECTION_STRING: component.properties.ConnectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${apiIdentityClientId};Authorization=AAD'
}

// What devices and the public call, none of which has a token of Entra ID. Easy Auth knows a wildcard at the end of a path
// only (MicrosoftDocs/azure-docs issue 86514), so what operators call below a device is not behind it either: there, as
// everywhere, the API itself checks the token and its roles.
var pathsWithoutToken = [
  '/api/v1/health'
  '/api/v1/openapi.json'
  '/api/v1/trust-bundle'
  '/api/v1/trust-bundle/roots/*'
  '/api/v1/join'
  '/api/v1/devices/*'
]

resource storage 'Microsoft.Storage/storageAccounts@2023-05-01' existing = {
  name: storageName
}

resource component 'Microsoft.Insights/components@2020-02-02' existing = {
  name: componentName
}

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: 'plan-gatepost-${suffix}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    tier: 'FlexConsumption'
    name: 'FC1'
  }
  properties: {
    reserved: true
    zoneRedundant: zoneRedundant
  }
}

resource site 'Microsoft.Web/sites@2024-04-01' = {
  name: 'func-gatepost-${suffix}'
  location: location
  tags: union(tags, {
    'azd-service-name': 'api'
  })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${apiIdentityId}': {}
      '${trustManagerIdentityId}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${storage.properties.primaryEndpoints.blob}${deploymentContainerName}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: apiIdentityId
          }
        }
      }
      runtime: {
        name: 'node'
        version: '24'
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
        alwaysReady: alwaysReadyInstances == 0 ? [] : [
          {
            name: 'http'
            instanceCount: alwaysReadyInstances
          }
        ]
        triggers: {
          http: {
            perInstanceConcurrency: httpConcurrency
          }
        }
      }
    }
    siteConfig: {
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      http20Enabled: true
    }
  }
}

resource appSettings 'Microsoft.Web/sites/config@2024-04-01' = {
  parent: site
  name: 'appsettings'
  properties: settings
}

// The package comes with a token of Entra ID too: no publishing password works.
resource noFtpPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: site
  name: 'ftp'
  properties: {
    allow: false
  }
}

resource noScmPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: site
  name: 'scm'
  properties: {
    allow: false
  }
}

// The outer gate. The app checks every token itself and trusts no header of this.
resource gate 'Microsoft.Web/sites/config@2024-04-01' = {
  parent: site
  name: 'authsettingsV2'
  properties: {
    platform: {
      enabled: true
      runtimeVersion: '~1'
    }
    globalValidation: {
      requireAuthentication: true
      unauthenticatedClientAction: 'Return401'
      excludedPaths: pathsWithoutToken
    }
    httpSettings: {
      requireHttps: true
    }
    identityProviders: {
      azureActiveDirectory: {
        enabled: true
        // No secret: nobody signs in here, callers bring their token.
        registration: {
          clientId: apiClientId
          openIdIssuer: issuer
        }
        validation: {
          allowedAudiences: audiences
        }
      }
    }
    login: {
      tokenStore: {
        enabled: false
      }
    }
  }
}

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'gatepost'
  scope: site
  properties: {
    workspaceId: workspaceId
    // What the app logs reaches the workspace by way of Application Insights: here is who was let in by the gate.
    logs: [
      {
        category: 'AppServiceAuthenticationLogs'
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

@description('Name of the app.')
output name string = site.name

@description('Base URL of the API.')
output url string = 'https://${site.properties.defaultHostName}'
