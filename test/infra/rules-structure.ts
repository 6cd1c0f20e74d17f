import { at, type BicepFile, type Deployed, type Parameter, type Value, written } from './bicep.ts';
import { deployed, fileOf, type Infra, type Rule } from './infra.ts';

export const parses: Rule = (infra) =>
  [...infra.files.values()].filter((file) => file.hasError).map(({ path }) => `${path} does not parse`);

/** A module is a file of this tree, gets what it declares, and all that it needs. */
export const modulesFit: Rule = (infra) => {
  const faults: string[] = [];
  const used = new Set<string>();
  for (const file of infra.files.values()) {
    for (const module of file.modules) {
      used.add(module.of);
      const target = infra.files.get(module.of);
      if (target === undefined) faults.push(`${file.path}: ${module.name} is ${module.of}, which is not here`);
      else faults.push(...misfits(file, module, target));
    }
  }
  for (const path of infra.files.keys()) {
    if (path !== 'main.bicep' && !used.has(path)) faults.push(`nothing uses ${path}`);
  }
  return [...faults, ...outputsMissing(infra)];
};

function misfits(file: BicepFile, module: Deployed, target: BicepFile): string[] {
  const params = at(module.body, 'params');
  const passed = params instanceof Map ? [...params.keys()] : [];
  const declared = target.parameters.map(({ name }) => name);
  const needed = target.parameters.filter(({ hasDefault }) => !hasDefault).map(({ name }) => name);
  const where = `${file.path}: ${module.name}`;
  return [
    ...passed
      .filter((name) => !declared.includes(name))
      .map((name) => `${where} gets ${name}, which it does not declare`),
    ...needed.filter((name) => !passed.includes(name)).map((name) => `${where} does not get ${name}`),
  ];
}

/** `module.outputs.name` names an output of that module. */
function outputsMissing(infra: Infra): string[] {
  return [...infra.files.values()].flatMap(({ path, text, modules }) =>
    [...text.matchAll(/\b(\w+)!?\.outputs\.(\w+)/g)].flatMap(([use, name, output]) => {
      const target = infra.files.get(modules.find((module) => module.name === name)?.of ?? '');
      return target?.outputs.some((each) => each.name === output) ? [] : [`${path}: there is no ${use}`];
    }),
  );
}

/** A module that is there at times only is read at those times only: `isProd ? module!.outputs.x : other`. */
export const conditionsHold: Rule = (infra) => {
  const { modules, outputs } = fileOf(infra, 'main.bicep');
  const reads = [
    ...outputs.map(({ name, value }) => ({ name, condition: undefined, texts: [value] })),
    ...modules.map(({ name, condition, body }) => ({ name, condition, texts: textsIn(body) })),
  ];
  return modules.flatMap(({ name: read, condition: needed }) => {
    if (needed === undefined) return [];
    return reads.flatMap(({ name, condition, texts }) => {
      const wrong = texts.filter((text) => {
        if (!new RegExp(`\\b${read}!?\\.outputs`).test(text)) return false;
        const guarded = condition === needed || text.startsWith(needed.slice(1, -1));
        return !guarded || text.includes(`${read}.outputs`);
      });
      return wrong.map((text) => `main.bicep: ${name} reads ${text}, which is not always there`);
    });
  });
};

function textsIn(value: Value): string[] {
  if (value instanceof Map) return [...value.values()].flatMap(textsIn);
  return Array.isArray(value) ? value.flatMap(textsIn) : [written(value)];
}

/** A hub or a vault that is brought is not made anew, and gets its roles where it is. */
export const broughtIsUsed: Rule = (infra) => {
  const { modules, variables } = fileOf(infra, 'main.bicep');
  return ['Hub', 'Vault'].flatMap((what) => {
    const [own, access] = [`own${what}`, what.toLowerCase()].map((name) => modules.find((each) => each.name === name));
    const [lower, id] = [what.toLowerCase(), `existing${what}ResourceId`];
    const wanted: Record<string, [found: string | undefined, wanted: string]> = {
      'is made where none is brought': [own?.condition, `(hasOwn${what})`],
      'is brought by its id': [written(variables.get(`hasOwn${what}`)), `empty(${id})`],
      'is found in its group': [
        access === undefined ? undefined : written(at(access.body, 'scope')),
        `resourceGroup(${lower}SubscriptionId, ${lower}ResourceGroupName)`,
      ],
      'has the name of its id': [
        /last\(.*\)/.exec(written(variables.get(`${lower}Name`)))?.[0],
        `last(split(${id}, '/'))`,
      ],
    };
    return Object.entries(wanted)
      .filter(([, [found, expected]]) => found !== expected)
      .map(([promise, [found]]) => `it does not hold that a ${lower} ${promise}: ${found}`);
  });
};

/** What is declared is used: the compiler warns of what is not. */
export const nothingUnused: Rule = (infra) =>
  [...infra.files.values()].flatMap(({ path, parameters, variables, resources, uses }) => {
    const names = [...parameters.map(({ name }) => name), ...variables.keys()];
    const lookedUp = resources.filter(({ existing }) => existing).map(({ name }) => name);
    return [...names, ...lookedUp].filter((name) => !uses.has(name)).map((name) => `${path}: ${name} is not used`);
  });

export const nothingTwice: Rule = (infra) =>
  [...infra.files.values()].flatMap(({ path, twice }) => twice.map((name) => `${path}: ${name} stands there twice`));

/** Parameters say what they are and what they may be; outputs what they are for. */
export const everythingDescribed: Rule = (infra) =>
  [...infra.files.values()].flatMap(({ path, parameters, outputs }) => [
    ...[...parameters, ...outputs]
      .filter(({ decorators }) => String(decorators.get('description')?.[0] ?? '').length < 4)
      .map(({ name }) => `${path}: ${name} has no description`),
    ...parameters.filter((parameter) => !isBound(parameter, path)).map(({ name }) => `${path}: ${name} takes anything`),
  ]);

function isBound({ type, decorators, name }: Parameter, path: string): boolean {
  if (decorators.has('allowed')) return true;
  if (type === 'int') return decorators.has('minValue') && decorators.has('maxValue');
  if (type === 'array') return decorators.has('maxLength');
  // Ids of resources are as long as they are; what a person types has a bound on both sides, or may be empty.
  if (type === 'string') return decorators.has('minLength') || decorators.has('maxLength') || name === 'subnetId';
  return type === 'bool' || (type === 'object' && path !== 'main.bicep');
}

/** One API version for a type, and previews only where there is nothing else. */
export const apiVersions: Rule = (infra) => {
  const faults: string[] = [];
  const versions = new Map<string, string>();
  for (const file of infra.files.values()) {
    for (const { name, of } of file.resources) {
      const [type = '', version = ''] = of.split('@');
      if (!/^\d{4}-\d{2}-\d{2}(-preview)?$/.test(version)) faults.push(`${file.path}: ${name} names no API version`);
      // Categories of logs in groups came with this one, and no later version is final.
      if (version.endsWith('-preview') && type !== 'Microsoft.Insights/diagnosticSettings') {
        faults.push(`${file.path}: ${name} uses the preview ${version}`);
      }
      if ((versions.get(type) ?? version) !== version) faults.push(`${type} is used in several versions`);
      versions.set(type, version);
    }
  }
  return faults;
};

const withLogs = [
  'Microsoft.Storage/storageAccounts',
  'Microsoft.Storage/storageAccounts/blobServices',
  'Microsoft.Storage/storageAccounts/tableServices',
  'Microsoft.Storage/storageAccounts/queueServices',
  'Microsoft.KeyVault/vaults',
  'Microsoft.Devices/IotHubs',
  'Microsoft.Web/sites',
  'Microsoft.OperationalInsights/workspaces',
  'Microsoft.Network/virtualNetworks',
  'Microsoft.Network/publicIPAddresses',
];

/** Types that have no resource logs, or whose logs are in the workspace already. */
const withoutLogs = [
  'Microsoft.Resources/resourceGroups',
  'Microsoft.ManagedIdentity/userAssignedIdentities',
  'Microsoft.Authorization/roleAssignments',
  'Microsoft.Storage/storageAccounts/blobServices/containers',
  'Microsoft.Web/serverfarms',
  'Microsoft.Web/sites/config',
  'Microsoft.Web/sites/basicPublishingCredentialsPolicies',
  'Microsoft.Network/natGateways',
  'Microsoft.Network/privateEndpoints',
  'Microsoft.Network/privateEndpoints/privateDnsZoneGroups',
  'Microsoft.Network/privateDnsZones',
  'Microsoft.Network/privateDnsZones/virtualNetworkLinks',
  'Microsoft.Insights/diagnosticSettings',
  'Microsoft.Insights/actionGroups',
  'Microsoft.Insights/workbooks',
  'Microsoft.OperationalInsights/workspaces/savedSearches',
  'Microsoft.Insights/scheduledQueryRules',
  'Microsoft.Insights/metricAlerts',
  // Keeps its tables in the workspace: a diagnostic setting would write every line twice.
  'Microsoft.Insights/components',
];

/** Whatever has logs of its own sends them to the workspace. */
export const diagnosticsEverywhere: Rule = (infra) =>
  deployed(infra).flatMap(({ file, resource }) => {
    const type = resource.of.split('@')[0] ?? '';
    if (withoutLogs.includes(type)) return [];
    if (!withLogs.includes(type)) return [`it is not known whether ${type} has logs: say so in the tests`];
    const settings = file.resources.filter(({ of }) => of.startsWith('Microsoft.Insights/diagnosticSettings@'));
    const own = settings.find(({ body }) => written(at(body, 'scope')) === resource.name);
    if (own === undefined) return [`${file.path}: ${resource.name} has no diagnostic setting`];
    const workspace = written(at(own.body, 'properties.workspaceId'));
    const sends = at(own.body, 'properties.logs') !== undefined || at(own.body, 'properties.metrics') !== undefined;
    return sends && /^workspace(Id|\.id)$/.test(workspace) ? [] : [`${file.path}: ${own.name} sends nothing`];
  });

/** What azd passes exists, and what has no default is passed. */
export const parametersFit: Rule = (infra) => {
  const { parameters } = fileOf(infra, 'main.bicep');
  const given = Object.keys(infra.parameters);
  return [
    ...given
      .filter((name) => !parameters.some((each) => each.name === name))
      .map((name) => `main.parameters.json passes ${name}, which main.bicep does not declare`),
    ...parameters
      .filter(({ name, hasDefault }) => !hasDefault && !given.includes(name))
      .map(({ name }) => `main.parameters.json does not pass ${name}`),
  ];
};
