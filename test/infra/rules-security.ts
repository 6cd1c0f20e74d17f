import { at, type BicepFile, type Deployed, type Value, written } from './bicep.ts';
import { deployed, fileOf, type Infra, type Rule } from './infra.ts';

const guid = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/i;

/** Nothing reads, makes or takes a shared key of an account or of the service side of the hub. */
export const noSharedKeys: Rule = (infra) => {
  const faults: string[] = [];
  const forbidden =
    /\blist[A-Z]\w*\s*\(|\.list[A-Z]\w*\s*\(|AccountKey=|SharedAccessKey|SharedAccessSignature|AccountConnectionString/;
  for (const { path, text } of infra.files.values()) {
    const found = forbidden.exec(text)?.[0];
    if (found !== undefined) faults.push(`${path} uses a shared key: ${found}`);
  }
  expectAll(infra, faults, {
    'Microsoft.Storage/storageAccounts': {
      'properties.allowSharedKeyAccess': false,
      'properties.allowBlobPublicAccess': false,
    },
    'Microsoft.Devices/IotHubs': { 'properties.disableLocalAuth': true },
    'Microsoft.Insights/components': { 'properties.DisableLocalAuth': true },
    'Microsoft.OperationalInsights/workspaces': { 'properties.features.disableLocalAuth': true },
    'Microsoft.Web/sites/basicPublishingCredentialsPolicies': { 'properties.allow': false },
    'Microsoft.Web/sites': {
      'properties.functionAppConfig.deployment.storage.authentication.type': 'UserAssignedIdentity',
    },
  });
  const policies = deployed(infra, 'Microsoft.Web/sites/basicPublishingCredentialsPolicies');
  if (
    policies
      .map(({ resource }) => written(at(resource.body, 'name')))
      .sort()
      .join() !== 'ftp,scm'
  ) {
    faults.push('Passwords are not switched off for both ftp and scm.');
  }
  return faults;
};

/** A vault that is used by role only, and in which nothing can be destroyed before its time. */
export const vaultProtected: Rule = (infra) => {
  const faults: string[] = [];
  expectAll(infra, faults, {
    'Microsoft.KeyVault/vaults': {
      'properties.enableRbacAuthorization': true,
      'properties.enablePurgeProtection': true,
      'properties.enableSoftDelete': true,
      'properties.accessPolicies': undefined,
    },
  });
  return faults;
};

/** Gateways and devices sign with keys of their own: that must be said, since templates elsewhere switch it off. */
export const devicesMaySign: Rule = (infra) => {
  const faults: string[] = [];
  expectAll(infra, faults, {
    'Microsoft.Devices/IotHubs': { 'properties.disableDeviceSAS': false, 'properties.disableModuleSAS': false },
  });
  return faults;
};

export const modernTls: Rule = (infra) => {
  const faults: string[] = [];
  expectAll(infra, faults, {
    'Microsoft.Storage/storageAccounts': {
      'properties.minimumTlsVersion': 'TLS1_2',
      'properties.supportsHttpsTrafficOnly': true,
    },
    'Microsoft.Devices/IotHubs': { 'properties.minTlsVersion': '1.2' },
    'Microsoft.Web/sites': {
      'properties.httpsOnly': true,
      'properties.siteConfig.minTlsVersion': '1.2',
      'properties.siteConfig.scmMinTlsVersion': '1.2',
    },
  });
  return faults;
};

/** In the prod profile vault and storage are closed to the Internet, and the network that replaces it is there. */
export const privateInProd: Rule = (infra) => {
  const faults: string[] = [];
  for (const type of ['Microsoft.Storage/storageAccounts', 'Microsoft.KeyVault/vaults']) {
    for (const { file, resource } of deployed(infra, type)) {
      for (const [path, wanted] of [
        ['properties.publicNetworkAccess', "isPrivate ? 'Disabled' : 'Enabled'"],
        ['properties.networkAcls.defaultAction', "isPrivate ? 'Deny' : 'Allow'"],
      ] as const) {
        if (written(at(resource.body, path)) !== wanted) faults.push(`${file.path}: ${path} is not ${wanted}`);
      }
    }
  }
  const main = fileOf(infra, 'main.bicep');
  const passed: Record<string, [string, string]> = {
    storage: ['params.isPrivate', 'isProd'],
    ownVault: ['params.isPrivate', 'isProd'],
    app: ['params.zoneRedundant', 'isProd'],
  };
  for (const [name, [path, wanted]] of Object.entries(passed)) {
    const module = main.modules.find((each) => each.name === name);
    if (module === undefined || written(at(module.body, path)) !== wanted)
      faults.push(`main.bicep: ${name} lacks ${path}`);
  }
  for (const name of ['network', 'privateEndpoints']) {
    if (main.modules.find((each) => each.name === name)?.condition !== '(isProd)')
      faults.push(`${name} is not of prod alone`);
  }
  return faults;
};

export const noSecretInOutputs: Rule = (infra) =>
  [...infra.files.values()].flatMap(({ path, outputs }) =>
    outputs
      .filter(({ name, value }) =>
        /secret|password|connectionString|primaryKey|secondaryKey|sasToken|\blist[A-Z]/i.test(`${name} ${value}`),
      )
      .map(({ name }) => `${path}: the output ${name} gives a secret away`),
  );

/** Role ids stand in one table; each is assigned where, and to whom, the table says. */
export const rolesFromTable: Rule = (infra) => {
  const faults: string[] = [];
  for (const { path, text } of infra.files.values()) {
    if (guid.test(text)) faults.push(`${path} has an id of its own: role ids belong into roles.json`);
  }
  const assigned = deployed(infra, 'Microsoft.Authorization/roleAssignments').flatMap(({ file, resource }) =>
    rolesOf(file, resource).map((role) => `${role} to ${granteeOf(resource)} on ${scopeOf(file, resource)}`),
  );
  const types = {
    vault: 'Microsoft.KeyVault/vaults',
    hub: 'Microsoft.Devices/IotHubs',
    storage: 'Microsoft.Storage/storageAccounts',
    component: 'Microsoft.Insights/components',
  };
  const wanted = Object.entries(infra.roles).map(
    ([role, { identity, scope }]) => `${role} to ${identity}PrincipalId on ${types[scope]}`,
  );
  for (const each of assigned.filter((one) => !wanted.includes(one))) faults.push(`roles.json does not have: ${each}`);
  for (const each of wanted.filter((one) => !assigned.includes(one))) faults.push(`nothing assigns: ${each}`);
  for (const { modules } of infra.files.values()) {
    for (const { name, body } of modules) {
      for (const identity of ['apiPrincipalId', 'trustManagerPrincipalId']) {
        const given = at(body, `params.${identity}`);
        if (given !== undefined && written(given) !== `identities.outputs.${identity}`) {
          faults.push(`the module ${name} gets another ${identity}`);
        }
      }
    }
  }
  return faults;
};

/** Addresses of a cloud come from `environment()`: there are other clouds than the public one. */
export const noFixedAddresses: Rule = (infra) =>
  [...infra.files.values()].flatMap(({ path, text }) => {
    const found =
      /core\.windows\.net|vault(core)?\.azure\.net|login\.microsoftonline\.com|management\.azure\.com|azure-devices\.net/;
    const hit = found.exec(text)?.[0];
    return hit === undefined ? [] : [`${path} names ${hit}`];
  });

function rolesOf(file: BicepFile, { body, over }: Deployed): string[] {
  const id = written(at(body, 'properties.roleDefinitionId'));
  const alone = /roles\.(\w+)\.id/.exec(id)?.[1];
  if (alone !== undefined) return [alone];
  const list = over === undefined ? undefined : file.variables.get(over);
  if (!/\brole\.id\b/.test(id) || !Array.isArray(list)) return [`what cannot be read (${id})`];
  return list.map((each) => written(each).replace(/^roles\./, ''));
}

function granteeOf({ body }: Deployed): string {
  return written(at(body, 'properties.principalId'));
}

function scopeOf(file: BicepFile, { body }: Deployed): string {
  const name = written(at(body, 'scope'));
  return file.resources.find((resource) => resource.name === name)?.of.split('@')[0] ?? 'a whole group';
}

/** Each resource of a type has these values; a type without any resource is a fault too. */
function expectAll(infra: Infra, faults: string[], wanted: Record<string, Record<string, Value | undefined>>): void {
  for (const [type, values] of Object.entries(wanted)) {
    const found = deployed(infra, type);
    if (found.length === 0) faults.push(`no ${type} is deployed`);
    for (const { file, resource } of found) {
      for (const [path, value] of Object.entries(values)) {
        if (at(resource.body, path) !== value) {
          faults.push(`${file.path}: ${resource.name} has ${path} ${written(at(resource.body, path))}, not ${value}`);
        }
      }
    }
  }
}
