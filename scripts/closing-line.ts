import { readFileSync } from 'node:fs';

/** The part of vitest's JSON report that counts. */
export interface Report {
  success: boolean;
  numPassedTests: number;
  numFailedTests: number;
  testResults: { status: string; assertionResults: unknown[] }[];
}

/** `N passed, N failed`. A file that did not load has no tests to fail, so it counts as one failure itself. */
export function closingLine(report: Report): string {
  const unloaded = report.testResults.filter(
    ({ status, assertionResults }) => status === 'failed' && assertionResults.length === 0,
  ).length;
  const failed = report.numFailedTests + unloaded;
  // An error outside of every test fails the run although each test passed.
  return `${report.numPassedTests} passed, ${failed === 0 && !report.success ? 1 : failed} failed`;
}

if (import.meta.main) {
  const [file] = process.argv.slice(2);
  if (file === undefined) throw new Error('usage: closing-line.ts REPORT.json');
  process.stdout.write(`${closingLine(JSON.parse(readFileSync(file, 'utf8')))}\n`);
}
