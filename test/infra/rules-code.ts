import type { Route } from '../../lib/http/route.ts';
import { at, type Value, written } from './bicep.ts';
import { deployed, fileOf, type Infra, type Rule } from './infra.ts';

/** Set by whoever runs the app elsewhere, or by the platform: no template sets them. */
const notOfTemplates = [
  'AzureWebJobsStorage',
  'GATEPOST_LOCAL_ENDPOINTS',
  'GATEPOST_LOCAL_CA_FILE',
  'OTEL_EXPORTER_OTLP_ENDPOINT',
  'WEBSITE_INSTANCE_ID',
  'WEBSITE_POD_NAME',
];

/** Read by the Functions host, not by the app. */
const ofTheHost = [
  'AzureWebJobsStorage__credential',
  'AzureWebJobsStorage__clientId',
  'AzureWebJobsStorage__blobServiceUri',
  'AzureWebJobsStorage__tableServiceUri',
  'APPLICATIONINSIGHTS_CONNECTION_STRING',
  'APPLICATIONINSIGHTS_AUTHENTICATION_STRING',
];

/** Every setting that the app reads is set, and whatever is set is read. */
export const settingsFit: Rule = (infra) => {
  const app = fileOf(infra, 'modules/function-app.bicep');
  const settings = app.variables.get('settings');
  const deployedAs = deployed(infra, 'Microsoft.Web/sites/config').some(
    ({ resource }) =>
      written(at(resource.body, 'name')) === 'appsettings' && written(at(resource.body, 'properties')) === 'settings',
  );
  if (!(settings instanceof Map) || !deployedAs) return ['the app gets no settings'];
  const block = /const settings = z\.object\(\{([\s\S]*?)\n\}\);/.exec(infra.source('lib/config.ts'))?.[1] ?? '';
  const read = [...block.matchAll(/^ {2}(\w+):/gm)].map((found) => String(found[1]));
  const elsewhere = [...infra.list('lib'), ...infra.list('functions')]
    .filter((path) => path.endsWith('.ts') && path !== 'lib/config.ts')
    .filter((path) => /process\.env\b(?!\))/.test(infra.source(path)));
  const wanted = read.filter((name) => !notOfTemplates.includes(name));
  const given = [...settings.keys()];
  return [
    ...(wanted.length < 8 ? ['lib/config.ts was not understood'] : []),
    ...elsewhere.map((path) => `${path} reads settings past lib/config.ts`),
    ...wanted.filter((name) => !given.includes(name)).map((name) => `${name} is read by the app and set by nobody`),
    ...given
      .filter((name) => !wanted.includes(name) && !ofTheHost.includes(name))
      .map((name) => `${name} is set and read by nobody`),
  ];
};

/** Each role is needed by a call that the code makes, and each call of an SDK is covered by one. */
export const rolesJustified: Rule = (infra) => {
  const faults: string[] = [];
  for (const [role, { calls, name, why }] of Object.entries(infra.roles)) {
    if (calls.length === 0 || why === '') faults.push(`${role} is justified by nothing`);
    if (/^(Owner|Contributor|User Access Administrator)$|Administrator$/.test(name))
      faults.push(`${name} may do anything`);
    for (const { file, text } of calls) {
      if (!infra.source(file).includes(text)) faults.push(`${role}: ${file} has no ${text}`);
    }
  }
  const justified = Object.values(infra.roles).flatMap(({ calls }) => calls.map(({ text }) => text));
  const made = { 'vault.ts': /\bclient\.\w+\(/g, 'hub.ts': /#sdk\.\w+\(/g, 'tables.ts': /\b(?:table|service)\.\w+\(/g };
  for (const [file, pattern] of Object.entries(made)) {
    const calls = [...infra.source(`lib/azure/${file}`).matchAll(pattern)].map(([call]) => call);
    if (calls.length === 0) faults.push(`lib/azure/${file} was not understood`);
    const others = calls.filter((call) => !justified.includes(call));
    faults.push(...others.map((call) => `roles.json says of no role that ${file} needs it for ${call}...)`));
  }
  return faults;
};

/** Nothing is deployed that no code uses. */
export const storageUsed: Rule = (infra) => {
  const code = [...infra.list('functions'), ...infra.list('lib')]
    .filter((path) => path.endsWith('.ts'))
    .map((path) => infra.source(path))
    .join('\n');
  const app = fileOf(infra, 'modules/function-app.bicep').text;
  const parts = {
    queue: { used: /app\.storageQueue\(|storage-queue/.test(code), role: 'Storage Queue Data Contributor' },
    table: { used: /@azure\/data-tables/.test(code), role: 'Storage Table Data Contributor' },
    // Timers keep their lock and their schedule there.
    blob: { used: /app\.timer\(|storage-blob/.test(code), role: 'Storage Blob Data Owner' },
  };
  return Object.entries(parts).flatMap(([part, { used, role }]) => {
    const service = deployed(infra, `Microsoft.Storage/storageAccounts/${part}Services`).length > 0;
    const setting = app.includes(`AzureWebJobsStorage__${part}ServiceUri`);
    const granted = Object.values(infra.roles).some(({ name }) => name === role);
    const has = { service, setting, granted };
    return Object.entries(has)
      .filter(([, there]) => there !== used)
      .map(([what]) => `${part}: the code ${used ? 'uses' : 'does not use'} it, its ${what} says otherwise`);
  });
};

/** The app runs on the Node that it is tested on. */
export const nodeVersion: Rule = (infra) => {
  const [site] = deployed(infra, 'Microsoft.Web/sites');
  const version =
    site === undefined ? undefined : at(site.resource.body, 'properties.functionAppConfig.runtime.version');
  const tested = JSON.parse(infra.source('package.json')).devDependencies.node;
  return `^${String(version)}` === tested ? [] : [`Node ${String(version)} is deployed, ${tested} is tested`];
};

/** Easy Auth lets through what needs no token of Entra ID, and as little else as it can. */
export function gateFits(routes: readonly Route[]): Rule {
  return (infra) => {
    const app = fileOf(infra, 'modules/function-app.bicep');
    const paths = app.variables.get('pathsWithoutToken');
    const open = Array.isArray(paths) ? paths.map(written) : [];
    const withoutToken = routes.filter(({ access }) => access.plane !== 'operator');
    const needed = new Set(withoutToken.map(({ path }) => narrowest(path)));
    const opened = routes.filter(({ access, path }) => access.plane === 'operator' && isOpen(open, path));
    return [
      ...gateFaults(infra),
      ...[...needed].filter((path) => !open.includes(path)).map((path) => `the gate keeps callers of ${path} out`),
      ...open.filter((path) => !needed.has(path)).map((path) => `the gate lets ${path} through for nothing`),
      ...opened
        .filter(({ path }) => !path.startsWith('api/v1/devices/{deviceId}'))
        .map(({ path }) => `the gate lets the operators' ${path} through`),
    ];
  };
}

function gateFaults(infra: Infra): string[] {
  const gate = deployed(infra, 'Microsoft.Web/sites/config').find(
    ({ resource }) => written(at(resource.body, 'name')) === 'authsettingsV2',
  );
  if (gate === undefined) return ['there is no gate'];
  const wanted: Record<string, Value | string> = {
    'properties.platform.enabled': true,
    'properties.globalValidation.requireAuthentication': true,
    'properties.globalValidation.unauthenticatedClientAction': 'Return401',
    'properties.identityProviders.azureActiveDirectory.enabled': true,
  };
  const expressions: Record<string, string> = {
    'properties.globalValidation.excludedPaths': 'pathsWithoutToken',
    'properties.identityProviders.azureActiveDirectory.validation.allowedAudiences': 'audiences',
    'properties.identityProviders.azureActiveDirectory.registration.openIdIssuer': 'issuer',
  };
  const { body } = gate.resource;
  return [
    ...Object.entries(wanted).filter(([path, value]) => at(body, path) !== value),
    ...Object.entries(expressions).filter(([path, value]) => written(at(body, path)) !== value),
  ].map(([path, value]) => `the gate's ${path} is not ${String(value)}`);
}

/** Easy Auth knows fixed paths, and a wildcard at the end of one. */
function narrowest(path: string): string {
  const variable = path.indexOf('{');
  return `/${variable < 0 ? path : `${path.slice(0, variable)}*`}`;
}

function isOpen(open: readonly string[], path: string): boolean {
  return open.some((each) => (each.endsWith('*') ? `/${path}`.startsWith(each.slice(0, -1)) : each === `/${path}`));
}
