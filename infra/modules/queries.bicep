// What operators ask: saved queries of the workspace, and a workbook that shows them.

@description('Region.')
@minLength(3)
param location string

@description('Tags of every resource.')
param tags object

@description('Name of the Log Analytics workspace.')
@minLength(4)
@maxLength(63)
param workspaceName string

var queries = [
  {
    name: 'onboardings'
    title: 'Devices onboarded, new ones and those that were there'
    text: loadTextContent('../queries/onboardings.kql')
  }
  {
    name: 'credentials'
    title: 'Credentials given out, by kind and call'
    text: loadTextContent('../queries/credentials.kql')
  }
  {
    name: 'join-failures'
    title: 'Why devices fail to join'
    text: loadTextContent('../queries/join-failures.kql')
  }
  {
    name: 'join-tokens'
    title: 'Join tokens issued and redeemed'
    text: loadTextContent('../queries/join-tokens.kql')
  }
  {
    name: 'bundle-sequences'
    title: 'Which bundle devices fetch'
    text: loadTextContent('../queries/bundle-sequences.kql')
  }
  {
    name: 'upstream-latency'
    title: 'How fast the services behind the API answer'
    text: loadTextContent('../queries/upstream-latency.kql')
  }
  {
    name: 'upstream-throttling'
    title: 'Which services throttle'
    text: loadTextContent('../queries/upstream-throttling.kql')
  }
  {
    name: 'failures'
    title: 'Calls that failed, by cause'
    text: loadTextContent('../queries/failures.kql')
  }
  {
    name: 'rate-limited'
    title: 'Who is slowed down'
    text: loadTextContent('../queries/rate-limited.kql')
  }
  {
    name: 'audit-lost'
    title: 'What the audit log lacks'
    text: loadTextContent('../queries/audit-lost.kql')
  }
  {
    name: 'roots'
    title: 'When roots expire'
    text: loadTextContent('../queries/roots.kql')
  }
  {
    name: 'one-call'
    title: 'Everything about one call'
    text: loadTextContent('../queries/one-call.kql')
  }
]

resource workspace 'Microsoft.OperationalInsights/workspaces@2023-09-01' existing = {
  name: workspaceName
}

resource saved 'Microsoft.OperationalInsights/workspaces/savedSearches@2020-08-01' = [for query in queries: {
  parent: workspace
  name: 'gatepost-${query.name}'
  properties: {
    category: 'Gatepost'
    displayName: query.title
    query: query.text
    version: 2
  }
}]

resource workbook 'Microsoft.Insights/workbooks@2022-04-01' = {
  name: guid(workspace.id, 'gatepost-workbook')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'Gatepost'
    category: 'workbook'
    sourceId: workspace.id
    version: 'Notebook/1.0'
    serializedData: loadTextContent('../workbook.json')
  }
}
