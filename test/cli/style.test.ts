import { expect, test } from 'vitest';
import type { OutputStream } from '../../src/cli/cli.js';
import { wantsColor, wantsTree } from '../../src/cli/style.js';

const terminal = { write: () => true, isTTY: true, columns: 80 };
const pipe = { write: () => true };

type Case = readonly [
  OutputStream,
  Readonly<Record<string, string>>,
  { readonly colour: boolean; readonly tree: boolean },
];

test.each<Case>([
  [terminal, {}, { colour: true, tree: true }],
  [pipe, {}, { colour: false, tree: false }],
  [terminal, { NO_COLOR: '1' }, { colour: false, tree: true }],
  [terminal, { NO_COLOR: '' }, { colour: true, tree: true }],
  [terminal, { TERM: 'dumb' }, { colour: false, tree: false }],
  [terminal, { CI: 'true' }, { colour: true, tree: false }],
  [terminal, { CI: 'false' }, { colour: true, tree: true }],
  [pipe, { FORCE_COLOR: '1' }, { colour: true, tree: false }],
  [terminal, { FORCE_COLOR: '0' }, { colour: false, tree: true }],
  [terminal, { FORCE_COLOR: '1', NO_COLOR: '1' }, { colour: true, tree: true }],
  [{ ...terminal, columns: 0 }, {}, { colour: true, tree: false }],
])('case %#: a stream and variables decide about colours and the tree', (stream, variables, expected) => {
  expect({ colour: wantsColor(stream, variables), tree: wantsTree(stream, variables) }).toEqual(expected);
});
