import type { CheckReport, CheckResult, ReportedFinding } from './report.ts';

export interface TableOptions {
  colour: boolean;
  /** Certificates and what is well are told in full. */
  verbose: boolean;
}

const width = 80;
const indent = 20;
const marks = { ok: 'ok', info: 'info', warning: 'WARNING', error: 'ERROR', skipped: '-' } as const;
const colours = { ok: 32, info: 36, warning: 33, error: 31, skipped: 2 } as const;

/** The report for people: 80 columns, but for commands that do not fold and names that are longer. */
export function renderTable(report: CheckReport, options: TableOptions): string[] {
  const paint = (text: string, colour: number) => (options.colour ? `\u001b[${colour}m${text}\u001b[0m` : text);
  const lines: string[] = [heading(report), ''];
  for (const check of report.checks) {
    const mark = paint(marks[check.result].padEnd(8), colours[check.result]);
    lines.push(`${mark}${check.name.padEnd(indent - 8)}${lead(check)}`.trimEnd());
    lines.push(...body(check, options, paint));
  }
  return [...lines, '', ...closing(report)];
}

function heading({ gateway, device }: CheckReport): string {
  const who = device === null ? '' : `${device.moduleId === null ? device.id : `${device.id}/${device.moduleId}`} -> `;
  return `gatepost-device check: ${who}${gateway === null ? 'no gateway known' : `${gateway.host}:${gateway.port}`}`;
}

function lead({ result, because, title }: CheckResult): string {
  if (result === 'skipped')
    return because === null ? `${title}: not looked at` : `not looked at: ${because} comes first`;
  return title;
}

function body(
  check: CheckResult,
  { verbose }: TableOptions,
  paint: (text: string, colour: number) => string,
): string[] {
  return check.findings.flatMap((finding) => {
    const isFault = finding.severity === 'error' || finding.severity === 'warning';
    const cause = hanging(finding.cause, '');
    if (!isFault)
      return [...cause, ...(verbose || check.name === 'tls' ? details(finding) : []), ...more(finding, verbose)];
    return [pad(paint(finding.code, colours[finding.severity])), ...cause, ...details(finding), ...advice(finding)];
  });
}

function more(finding: ReportedFinding, verbose: boolean): string[] {
  return verbose ? command(finding) : finding.severity === 'info' ? hanging(finding.cure, '') : [];
}

function details(finding: ReportedFinding): string[] {
  return [
    ...finding.details.flatMap((each) =>
      hanging(each.trimStart(), ' '.repeat(each.length - each.trimStart().length + 2)),
    ),
    ...finding.likely.flatMap((each, at) => hanging(`${at + 1}. ${each}`, '  ')),
  ];
}

function advice(finding: ReportedFinding): string[] {
  return [...hanging(`Cure: ${finding.cure}`, ''), ...command(finding)];
}

function command(finding: ReportedFinding): string[] {
  return foldCommand(finding.command).map((line, at) => pad(at === 0 ? `See:  ${line}` : `      ${line}`));
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

function hanging(text: string, further: string): string[] {
  return fold(text, width - indent - further.length).map((line) => pad(further + line));
}

function pad(line: string): string {
  return ' '.repeat(indent) + line;
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
