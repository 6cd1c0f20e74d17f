import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';

const root = resolve(import.meta.dirname, '../..');
const unread = new Set(['node_modules', 'dist', '.git', '.gatepost']);

function pagesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (unread.has(entry.name)) return [];
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return pagesBelow(path);
    return entry.name.endsWith('.md') ? [relative(root, path)] : [];
  });
}

const read = (path: string) => readFileSync(join(root, path), 'utf8');
const withoutCode = (text: string) => text.replaceAll(/^```[\s\S]*?^```/gm, '').replaceAll(/`[^`\n]*`/g, '');

/** The anchors that GitHub gives to the headings of a page. */
function anchorsOf(page: string): string[] {
  const headings = read(page)
    .replaceAll(/^```[\s\S]*?^```/gm, '')
    .matchAll(/^#{1,6} (.+)$/gm);
  return [...headings].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
      .trim()
      .replaceAll(/\s/g, '-'),
  );
}

function brokenLinksOf(page: string, text = read(page)): string[] {
  const links = [...withoutCode(text).matchAll(/\]\(([^)\s]+)\)/g)].map(([, link = '']) => link);
  return links.filter((link) => {
    if (/^[a-z]+:/.test(link)) return false;
    const [path = '', anchor] = link.split('#');
    const target = path === '' ? page : relative(root, resolve(root, dirname(page), path));
    if (!existsSync(join(root, target))) return true;
    return anchor !== undefined && target.endsWith('.md') && !anchorsOf(target).includes(anchor);
  });
}

/** What a page names as a proof: a file, and the title of a test in it. Line breaks in a title are spaces. */
function proofsOf(text: string): { file: string; title: string }[] {
  const found = text.matchAll(/`(test\/[\w/.-]+\.ts)`\s+“([^”]+)”/g);
  return [...found].map(([, file = '', title = '']) => ({ file, title: title.replaceAll(/\s+/g, ' ') }));
}

function hasTitle(file: string, title: string): boolean {
  if (!existsSync(join(root, file))) return false;
  const text = read(file).replaceAll("\\'", "'");
  return [`'${title}'`, `"${title}"`, `\`${title}\``].some((quoted) => text.includes(quoted));
}

const missingProofs = (text: string) => proofsOf(text).filter(({ file, title }) => !hasTitle(file, title));

describe('every page', () => {
  it.each(pagesBelow(root))('%s links only to what is there', (page) => {
    expect(brokenLinksOf(page)).toEqual([]);
  });

  it.each(pagesBelow(join(root, 'docs')))('%s names only tests that there are', (page) => {
    expect(missingProofs(read(page))).toEqual([]);
  });
});

describe('docs/security.md', () => {
  const page = read('docs/security.md');

  it('names a test for everything that it says stops an abuse', () => {
    const part = page.slice(page.indexOf('## Abuse, and what stops it'), page.indexOf('## What remains'));
    const rows = part.split('\n').filter((line) => /^\|(?! abuse|---)/.test(line));
    expect(rows.length).toBeGreaterThan(30);
    expect(rows.filter((row) => proofsOf(row).length === 0)).toEqual([]);
  });

  it('names no test in a form that is not looked for', () => {
    const named = page.match(/`test\/[^`]+`/g) ?? [];
    expect(named).toHaveLength(proofsOf(page).length);
  });
});

it('a link and a test that are not there would be found', () => {
  expect(brokenLinksOf('README.md', 'see [this](docs/nowhere.md), [that](#nowhere) and [it](LICENSE)')).toEqual([
    'docs/nowhere.md',
    '#nowhere',
  ]);
  const text = '`test/infra/rules.test.ts` “the templates”, `test/infra/rules.test.ts` “the temples”';
  expect(missingProofs(text)).toEqual([{ file: 'test/infra/rules.test.ts', title: 'the temples' }]);
});
