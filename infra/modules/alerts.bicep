// Who hears of trouble, and of which. Every query reads lines that the app logs: {"event":"...",...}.

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

@description('Resource id of the IoT Hub.')
@minLength(1)
param hubId string

@description('Mail address. Empty: alerts are shown in the portal only.')
@maxLength(254)
param email string

@description('Failed attempts to join within 15 minutes that raise an alert.')
@minValue(1)
@maxValue(100000)
param failedJoinsThreshold int

// Once a day the app logs how long each root and authority is still valid. Two days are looked at, so that one line that
// comes late resolves nothing.
var expiryQuery = '''
AppTraces
| where Message startswith '{"event":"root_expiry"'
| extend line = parse_json(Message)
| project TimeGenerated, root = tostring(line.root), kind = tostring(line.kind), daysLeft = toint(line.daysLeft)
'''

var measuredQuery = '''
AppTraces
| where Message startswith '{"event":"roots_measured"'
'''

var throttledQuery = '''
AppTraces
| where Message startswith '{"event":"failed"'
| extend line = parse_json(Message)
| where tostring(line.code) == 'upstream_throttled'
'''

var failedJoinsQuery = '''
AppTraces
| where Message startswith '{"event":"refused"' or Message startswith '{"event":"failed"'
| extend line = parse_json(Message)
| where tostring(line.route) == 'join'
'''

var expiryRules = [
  {
    days: 60
    severity: 3
  }
  {
    days: 30
    severity: 2
  }
  {
    days: 14
    severity: 1
  }
]

var actionGroups = empty(email) ? [] : [
  actionGroup.id
]

resource actionGroup 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(email)) {
  name: 'ag-gatepost-${suffix}'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'gatepost'
    enabled: true
    emailReceivers: [
      {
        name: 'operator'
        emailAddress: email
        useCommonAlertSchema: true
      }
    ]
  }
}

resource expiry 'Microsoft.Insights/scheduledQueryRules@2022-06-15' = [for rule in expiryRules: {
  name: 'gatepost-expiry-${rule.days}-days-${suffix}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Gatepost: a root or authority expires within ${rule.days} days'
    description: 'Import its successor, and let devices fetch the new bundle, before gateways change over.'
    severity: rule.severity
    enabled: true
    scopes: [
      workspaceId
    ]
    evaluationFrequency: 'PT6H'
    windowSize: 'P2D'
    criteria: {
      allOf: [
        {
          query: expiryQuery
          timeAggregation: 'Minimum'
          metricMeasureColumn: 'daysLeft'
          dimensions: [
            {
              name: 'root'
              operator: 'Include'
              values: [
                '*'
              ]
            }
          ]
          operator: 'LessThan'
          threshold: rule.days
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    // A new workspace has no line yet.
    skipQueryValidation: true
    autoMitigate: true
    actions: {
      actionGroups: actionGroups
    }
  }
}]

resource measured 'Microsoft.Insights/scheduledQueryRules@2022-06-15' = {
  name: 'gatepost-expiry-unknown-${suffix}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Gatepost: nobody has looked when roots expire'
    description: 'The daily timer measureRootExpiry has not succeeded for two days: the alerts about expiry are blind.'
    severity: 2
    enabled: true
    scopes: [
      workspaceId
    ]
    evaluationFrequency: 'PT6H'
    windowSize: 'P2D'
    criteria: {
      allOf: [
        {
          query: measuredQuery
          timeAggregation: 'Count'
          operator: 'LessThan'
          threshold: 1
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    skipQueryValidation: true
    autoMitigate: true
    actions: {
      actionGroups: actionGroups
    }
  }
}

resource throttled 'Microsoft.Insights/scheduledQueryRules@2022-06-15' = {
  name: 'gatepost-throttled-${suffix}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Gatepost: calls fail since a service behind the API is throttling'
    description: 'Most often the registry of the hub: 100 operations a minute and unit of S1 or S2. Slow the callers down, or add units.'
    severity: 2
    enabled: true
    scopes: [
      workspaceId
    ]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    criteria: {
      allOf: [
        {
          query: throttledQuery
          timeAggregation: 'Count'
          operator: 'GreaterThan'
          threshold: 0
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    skipQueryValidation: true
    autoMitigate: true
    actions: {
      actionGroups: actionGroups
    }
  }
}

resource failedJoins 'Microsoft.Insights/scheduledQueryRules@2022-06-15' = {
  name: 'gatepost-failed-joins-${suffix}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Gatepost: many devices fail to join'
    description: 'Tokens that ran out before the device used them, a gateway that is gone, or somebody who guesses.'
    severity: 2
    enabled: true
    scopes: [
      workspaceId
    ]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    criteria: {
      allOf: [
        {
          query: failedJoinsQuery
          timeAggregation: 'Count'
          operator: 'GreaterThanOrEqual'
          threshold: failedJoinsThreshold
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    skipQueryValidation: true
    autoMitigate: true
    actions: {
      actionGroups: actionGroups
    }
  }
}

// What the log of the app cannot show: the hub throttles what devices send.
resource hubThrottling 'Microsoft.Insights/metricAlerts@2018-03-01' = {
  name: 'gatepost-hub-throttling-${suffix}'
  location: 'global'
  tags: tags
  properties: {
    description: 'The hub throttles telemetry: add units, or let devices send less.'
    severity: 2
    enabled: true
    scopes: [
      hubId
    ]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    autoMitigate: true
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          criterionType: 'StaticThresholdCriterion'
          name: 'throttled'
          metricNamespace: 'Microsoft.Devices/IotHubs'
          metricName: 'd2c.telemetry.ingress.sendThrottle'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 0
        }
      ]
    }
    actions: [for id in actionGroups: {
      actionGroupId: id
    }]
  }
}
