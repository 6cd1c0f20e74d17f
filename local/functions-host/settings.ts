/** App settings: what the worker sees as its environment and what `%NAME%` expressions of bindings read. */
export type Settings = Readonly<Record<string, string>>;

/** The settings of an app: this process's environment, then those given. */
export function appSettings(given: Record<string, string>, storageConnectionString: string | undefined): Settings {
  const settings: Record<string, string> = {};
  for (const [name, value] of Object.entries(process.env)) if (value !== undefined) settings[name] = value;
  if (storageConnectionString !== undefined) settings.AzureWebJobsStorage = storageConnectionString;
  return { ...settings, ...given, FUNCTIONS_WORKER_RUNTIME: 'node' };
}

/**
 * Replaces each `%NAME%` by the setting of that name, as the host's DefaultNameResolver does before a trigger starts.
 *
 * @throws where a setting is missing.
 */
export function resolveExpressions(text: string, settings: Settings): string {
  return text.replace(/%([^%]+)%/g, (expression, name: string) => {
    const value = settings[name];
    if (value === undefined || value === '') throw new Error(`'${expression}' does not resolve to a value.`);
    return value;
  });
}

/** Whether `AzureWebJobs.NAME.Disabled` takes a function out of service (host: Utility.IsFunctionDisabled). */
export function isDisabled(functionName: string, settings: Settings): boolean {
  const value = settings[`AzureWebJobs.${functionName}.Disabled`]?.toLowerCase();
  return value === 'true' || value === '1';
}
