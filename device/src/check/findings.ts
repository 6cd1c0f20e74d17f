/** How bad a finding is. Only an error stops the checks that build on it. */
export type Severity = 'ok' | 'info' | 'warning' | 'error';

export const severities = ['ok', 'info', 'warning', 'error'] as const satisfies readonly Severity[];

/**
 * What is known of a code, for the doctor and for its documentation alike: {names} in braces are filled in with what was
 * met, and printed in capitals where nothing was.
 */
export interface CodeEntry {
  severity: Severity;
  /** One sentence: what is so. */
  cause: string;
  /** One sentence: what to do. */
  cure: string;
  /** What to type to see it without this program. */
  command: string;
  /** Where one code has several possible causes: each, the likeliest first. */
  likely?: readonly string[];
}

/** What every template may use. */
export interface CommonValues {
  host: string;
  port: string;
  /** The PEM file of the trusted roots, quoted for a shell. */
  roots: string;
  /** The state folder, quoted for a shell. */
  state: string;
  api: string;
  hub: string;
  /** `deviceId` or `deviceId/moduleId`. */
  device: string;
  /** The id of the gateway. */
  gateway: string;
}

export interface Finding {
  code: string;
  severity: Severity;
  cause: string;
  cure: string;
  command: string;
  /** Further lines: what exactly was seen. */
  details: string[];
}

type NamesIn<T extends string> = T extends `${string}{${infer Name}}${infer Rest}` ? Name | NamesIn<Rest> : never;

/** What a code must be told to be a finding. */
type ValuesOf<E extends CodeEntry> = Record<
  Exclude<NamesIn<E['cause'] | E['cure'] | E['command']>, keyof CommonValues>,
  string | number
>;

/** Keeps the texts as literal types, from which {@link finder} knows what each of them wants to be told. */
export function defineCodes<const T extends Record<string, CodeEntry>>(codes: T): T {
  return codes;
}

/** Answers a function that makes findings of these codes. */
export function finder<const T extends Record<string, CodeEntry>>(codes: T) {
  return <C extends keyof T & string>(
    code: C,
    common: CommonValues,
    values: ValuesOf<T[C]>,
    details: string[] = [],
  ): Finding => {
    const entry: CodeEntry | undefined = codes[code];
    if (entry === undefined) throw new Error(`There is no code ${code}.`);
    const all = { ...common, ...values };
    const filled = (text: string) =>
      fill(text, (name) => harmless(String((all as Record<string, string | number>)[name] ?? '')));
    return {
      code,
      severity: entry.severity,
      cause: filled(entry.cause),
      cure: filled(entry.cure),
      command: filled(entry.command),
      details: details.map(harmless),
    };
  };
}

/** What others have written, in a certificate or an answer, must not steer the terminal that it is shown on. */
function harmless(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, ' ');
}

/** Replaces each {name} of a text. */
export function fill(text: string, filler: (name: string) => string): string {
  return text.replaceAll(/\{(\w+)\}/g, (_whole, name: string) => filler(name));
}

export function worst(findings: readonly { severity: Severity }[]): Severity {
  return findings.reduce<Severity>(
    (found, { severity }) => (severities.indexOf(severity) > severities.indexOf(found) ? severity : found),
    'ok',
  );
}

/** As a POSIX shell takes it. */
export function quoted(text: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
