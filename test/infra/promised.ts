import type { Mutation, Rule } from './infra.ts';

/** A rule, what it promises of the templates, and changes of them that each break the promise. */
export type Promised = readonly [promise: string, rule: Rule, broken: Readonly<Record<string, Mutation>>];

export const main = 'infra/main.bicep';

export function module(name: string): string {
  return `infra/modules/${name}.bicep`;
}
