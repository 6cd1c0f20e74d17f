import type { CheckReport, CheckResult, ReportedFinding } from './report.ts';

export interface TableOptions {
  colour: boolean;
  /** Certificates and what is well are told in full. */
  verbose: boolean;
}

const width = 80;
/** Of what is said below a finding. */
const indent = 8;
/** Where the findings stand, behind how bad they are and which check they are of. */
const column = 22;
const marks = { ok: 'ok', info: 'info', warning: 'WARNING', error: 'ERROR', skipped: '-' } as const;
const colours = { ok: 32, info: 36, warning: 33, error: 31, skipped: 2 } as const;

type Paint = (text: string, colour: number) => string;

/** The report for people: 80 columns, but for what cannot be folded, such as a long path in a command. */
export function renderTable(report: CheckReport, options: TableOptions): string[] {
  const paint: Paint = (text, colour) => (options.colour ? `\u001b[${colour}m${text}\u001b[0m` : text);
  const rows = report.checks.flatMap((check) => [
    ...(check.result === 'skipped' ? [head(check, 'skipped', paint) + skipped(check)] : []),
    ...check.findings.flatMap((finding) => row(check, finding, options, paint)),
  ]);
  return [heading(report), '', ...rows, '', ...closing(report)];
}

function heading({ gateway, device }: CheckReport): string {
  const who = device === null ? '' : `${device.moduleId === null ? device.id : `${device.id}/${device.moduleId}`} -> `;
  return `gatepost-device check: ${who}${gateway === null ? 'no gateway known' : `${gateway.host}:${gateway.port}`}`;
}

function head({ name }: CheckResult, result: CheckResult['result'], paint: Paint): string {
  return `${paint(marks[result].padEnd(indent), colours[result])}${name.padEnd(column - indent)}`;
}

function skipped({ because }: CheckResult): string {
  return because === null ? 'not looked at' : `not looked at: ${because} comes first`;
}

function row(check: CheckResult, finding: ReportedFinding, { verbose }: TableOptions, paint: Paint): string[] {
  const { severity, code, cause } = finding;
  const front = head(check, severity, paint);
  if (severity === 'error' || severity === 'warning') {
    return [front + paint(code, colours[severity]), ...below(cause), ...details(finding), ...advice(finding)];
  }
  const [first = '', ...rest] = fold(cause, width - column);
  const lines = [front + first, ...rest.map((line) => ' '.repeat(column) + line)];
  // What the gateway sent is worth reading in any case.
  if (verbose || code === 'tls_ok') lines.push(...details(finding));
  return verbose ? [...lines, ...advice(finding)] : lines;
}

function details({ details: seen, likely }: ReportedFinding): string[] {
  return [...seen, ...likely.map((each, at) => `${at + 1}. ${each}`)].flatMap(below);
}

function advice({ cure, command }: ReportedFinding): string[] {
  const [first = '', ...rest] = foldCommand(command);
  return [...below(`Cure: ${cure}`), ...[`See:  ${first}`, ...rest.map((line) => `      ${line}`)].map(shifted)];
}

function below(text: string): string[] {
  return fold(text, width - indent).map(shifted);
}

function shifted(line: string): string {
  return ' '.repeat(indent) + line;
}

function closing({ firstCause, severity, checks }: CheckReport): string[] {
  const findings = checks.flatMap((each) => each.findings);
  const first = findings.find(({ code }) => code === firstCause);
  if (first !== undefined) {
    const others = findings.filter(({ severity: each }) => each === 'error').length - 1;
    const rest =
      others > 0 ? ` ${others === 1 ? 'One other fault is' : `${others} other faults are`} independent of it.` : '';
    return fold(`First cause: ${first.code}. ${first.cure}${rest}`, width);
  }
  if (severity === 'warning') return ['It works, and will not go on as it is: see the warnings.'];
  return ['Everything that could be looked at is well.'];
}

/** Breaks at spaces. */
function fold(text: string, columns: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > columns) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}

/** Breaks outside of quotes, so that the lines can be pasted into a shell as they are. */
function foldCommand(command: string): string[] {
  const words = command.match(/(?:'[^']*'|"(?:\\.|[^"\\])*"|[^\s'"])+/g) ?? [];
  const columns = width - indent - 8;
  const lines: string[] = [];
  let line = '';
  for (const word of words) {
    if (line !== '' && line.length + 1 + word.length > columns) {
      lines.push(`${line} \\`);
      line = `  ${word}`;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
