import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { packageApp } from '../../scripts/package.ts';

const read = (path: string) => readFileSync(path, 'utf8');
const workflows = readdirSync('.github/workflows').map((name) => `.github/workflows/${name}`);
const pipelines = [...workflows, '.azuredevops/deploy.yml'];

/** As .gitignore patterns go, as far as .funcignore uses them. */
function ignores(path: string): boolean {
  const patterns = read('.funcignore')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
  return patterns.some((pattern) => {
    const source = pattern.replace(/[.+]/g, '\\$&').replaceAll('*', '[^/]*');
    return new RegExp(`^${source}${pattern.endsWith('/') ? '' : '(/|$)'}`).test(path);
  });
}

describe('what is uploaded', () => {
  it('is what the package holds, also from this folder by the Functions tools', () => {
    for (const { path } of packageApp().files) expect([path, ignores(path)]).toEqual([path, false]);
    const left = readdirSync('.', { withFileTypes: true })
      .map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name))
      .filter((path) => !ignores(path));
    expect(left.sort()).toEqual(['LICENSE', 'dist/', 'host.json', 'package.json']);
    expect(['dist/app/host.json', 'dist/main.cjs.map', 'dist/gatepost.zip'].map(ignores)).toEqual([true, true, true]);
  });

  it('is where azd looks for it, as it is', () => {
    const azure = read('azure.yaml');
    expect(azure).toContain('dist: dist/app');
    expect(azure).toContain('remoteBuild: false');
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    for (const [, name] of azure.matchAll(/npm run (?:--silent )?(\w+)/g)) expect(Object.keys(scripts)).toContain(name);
  });
});

describe('docs/deploy.md', () => {
  it('tells every variable by which azd sets a parameter, with its default', () => {
    const set = [...read('infra/main.parameters.json').matchAll(/"(\w+)": \{ "value": "\$\{(\w+)(?:=(\w*))?\}" \}/g)];
    expect(set.length).toBeGreaterThan(5);
    const rows = read('docs/deploy.md').split('\n');
    for (const [, parameter, variable, fallback = ''] of set) {
      if (String(variable).startsWith('AZURE_')) continue;
      const row = rows.find((line) => line.startsWith(`| \`${variable}\` | \`${parameter}\``));
      expect([variable, row]).toEqual([variable, expect.stringContaining(fallback)]);
    }
  });

  it('names files, scripts and outputs that there are', () => {
    const text = read('docs/deploy.md');
    for (const [, path] of text.matchAll(/\]\(\.\.\/([^)]+)\)/g)) expect(() => read(String(path))).not.toThrow();
    const outputs = read('infra/main.bicep').matchAll(/^output (\w+) /gm);
    const known = [...outputs].map((found) => String(found[1])).concat('GATEPOST_FACTORY_CLIENT_ID');
    for (const [, name] of text.matchAll(/env get-value (\w+)/g)) expect(known).toContain(name);
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    for (const [, name] of text.matchAll(/npm run (\w+)/g)) expect(Object.keys(scripts)).toContain(name);
  });
});

describe('the pipelines', () => {
  it.each(workflows)('%s runs actions by their commit', (path) => {
    const used = [...read(path).matchAll(/uses: (\S+)/g)].map((found) => String(found[1]));
    expect(used.length).toBeGreaterThan(0);
    for (const each of used) expect(each).toMatch(/^[\w-]+\/[\w-]+@[0-9a-f]{40}$/);
  });

  it.each(pipelines)('%s knows no stored secret', (path) => {
    expect(read(path)).not.toMatch(
      /\bsecrets\.|client-secret|clientSecret|password|publish-?profile|connection-?string/i,
    );
  });

  it('say what would change for a pull request, and change it only otherwise', () => {
    const github = read('.github/workflows/deploy.yml').split(/\n {2}(?=[\w-]+:\n)/);
    const job = (name: string) => github.find((text) => text.startsWith(`${name}:`)) ?? '';
    expect(job('what-if')).toMatch(/github\.event_name == 'pull_request'/);
    expect(job('what-if')).toMatch(/head\.repo\.full_name == github\.repository/);
    expect(job('what-if')).toMatch(/deployment sub what-if/);
    expect(job('what-if')).not.toMatch(/azd |sub create/);
    expect(job('deploy')).toMatch(/github\.event_name != 'pull_request'/);
    const [, plan, deploy] = read('.azuredevops/deploy.yml')
      .split(/\n {2}- stage: /)
      .slice(1);
    expect(plan).toMatch(/eq\(variables\['Build\.Reason'\], 'PullRequest'\)/);
    expect(plan).not.toMatch(/sub create|config-zip/);
    expect(deploy).toMatch(/ne\(variables\['Build\.Reason'\], 'PullRequest'\)/);
  });

  it('pass parameters that the template has', () => {
    const template = read('infra/main.bicep');
    for (const path of pipelines) {
      const text = read(path).split('--parameters')[1] ?? read(path);
      const names = [...text.matchAll(/\b([a-z]\w+)=["$]/g)].map((found) => String(found[1]));
      for (const name of names.filter((each) => each !== 'outputs'))
        expect(template).toMatch(new RegExp(`^param ${name} `, 'm'));
    }
  });
});
