import { expect, it } from 'vitest';
import { closingLine } from '../../scripts/closing-line.ts';

const passed = { status: 'passed', assertionResults: [{}] };

it('counts what passed and what failed', () => {
  const report = { success: false, numPassedTests: 41, numFailedTests: 2, testResults: [passed] };
  expect(closingLine(report)).toBe('41 passed, 2 failed');
});

it('counts a file that did not load as a failure', () => {
  const testResults = [passed, { status: 'failed', assertionResults: [] }];
  expect(closingLine({ success: false, numPassedTests: 1, numFailedTests: 0, testResults })).toBe('1 passed, 1 failed');
});

it('never says that nothing failed when the run as a whole did', () => {
  const report = { success: false, numPassedTests: 3, numFailedTests: 0, testResults: [passed] };
  expect(closingLine(report)).toBe('3 passed, 1 failed');
});
