import { describe, expect, it } from 'vitest';
import { compileTemplate } from '../../../local/functions-host/route-template.ts';

const match = (template: string, path: string) => compileTemplate(template).match(path);

describe('route templates', () => {
  it.each([
    ['int', '7', true],
    ['int', '-7', true],
    ['int', '2147483648', false],
    ['int', '7.0', false],
    ['long', '2147483648', true],
    ['long', '9223372036854775808', false],
    ['bool', 'True', true],
    ['bool', '1', false],
    ['alpha', 'abC', true],
    ['alpha', 'ab1', false],
    ['guid', '0f8fad5b-d9cb-469f-a165-70867728950e', true],
    ['guid', '0f8fad5b', false],
    ['decimal', '1.5', true],
    ['decimal', '1e5', false],
    ['double', '1e5', true],
    ['float', 'x', false],
    ['datetime', '2026-11-22', true],
    ['datetime', 'yesterday', false],
    ['minlength(3)', 'abc', true],
    ['minlength(3)', 'ab', false],
    ['maxlength(3)', 'abc', true],
    ['maxlength(3)', 'abcd', false],
    ['length(3)', 'abc', true],
    ['length(3)', 'ab', false],
    ['length(2,3)', 'ab', true],
    ['length(2,3)', 'abcd', false],
    ['min(5)', '5', true],
    ['min(5)', '4', false],
    ['max(5)', '5', true],
    ['max(5)', '6', false],
    ['range(1,5)', '3', true],
    ['range(1,5)', '6', false],
    ['range(1,5)', 'x', false],
    ['regex(^a{{2}}$)', 'aa', true],
    ['regex(^a{{2}}$)', 'aaa', false],
    ['required', 'x', true],
    ['int:min(5)', '9', true],
    ['int:min(5)', '3', false],
  ] as const)('decide by the constraint %s about %s: %s', (constraint, value, fits) => {
    expect(match(`a/{id:${constraint}}`, `a/${value}`)).toEqual(fits ? { id: value } : undefined);
  });

  it('hold several parameters in one segment, the first as long as it can be', () => {
    expect(match('files/{name}.{extension}', 'files/a.b.txt')).toEqual({ name: 'a.b', extension: 'txt' });
    expect(match('v{major}-{minor}', 'v1-2')).toEqual({ major: '1', minor: '2' });
    expect(match('files/{name}.{extension}', 'files/a')).toBeUndefined();
  });

  it('check a constraint of an optional parameter only where there is a value', () => {
    expect(match('a/{id:int?}', 'a')).toEqual({});
    expect(match('a/{id:int?}', 'a/1')).toEqual({ id: '1' });
    expect(match('a/{id:int?}', 'a/b')).toBeUndefined();
  });

  it('want a parameter after all where a segment that must be there follows it', () => {
    expect(match('a/{b=x}/c', 'a/c')).toBeUndefined();
    expect(match('a/{b=x}/c', 'a/y/c')).toEqual({ b: 'y' });
  });

  it('take special characters of a literal for themselves', () => {
    expect(match('a.b+(c)', 'a.b+(c)')).toEqual({});
    expect(match('a.b', 'axb')).toBeUndefined();
  });

  it('keep an encoded slash inside one value', () => {
    expect(match('a/{id}', 'a/x%2Fy')).toEqual({ id: 'x%2Fy' });
  });

  it.each([
    'a/{',
    'a/{}',
    'a/{b',
    'a/b}',
    'a/{b}{c}',
    '{*rest}/a',
    'a/{b:unknown}',
    'a/{b:min}',
    'a/{b:min(x)}',
    '{a}/{A}',
    '{name}.{extension?}',
  ])('are refused when malformed: %s', (template) => {
    expect(() => compileTemplate(template)).toThrow();
  });
});
