import { expect, it } from 'vitest';
import { copyRequest } from '../../src/cli/copy-argument.js';

it.each([
  ['a', 'web:b', { direction: 'in', local: 'a', name: 'web', remote: 'b' }],
  ['web:/a b', 'c', { direction: 'out', local: 'c', name: 'web', remote: '/a b' }],
  ['./a:b', 'web:', { direction: 'in', local: './a:b', name: 'web', remote: '' }],
  ['/x/y:z', 'web:c:d', { direction: 'in', local: '/x/y:z', name: 'web', remote: 'c:d' }],
  ['web:two\nlines', '.', { direction: 'out', local: '.', name: 'web', remote: 'two\nlines' }],
])('%j %j', (source, destination, expected) => {
  expect(copyRequest(source, destination)).toEqual(expected);
});

it.each([
  ['a', 'b', 'neither a nor b is in a VM'],
  ['web:a', 'db:b', 'web:a and db:b are both in a VM'],
  [':a', 'b', ':a names no VM before its colon'],
  ['web:a', '', 'an empty path is no place on this machine'],
])('%j %j is wrong usage: %s', (source, destination, message) => {
  expect(() => copyRequest(source, destination)).toThrow(expect.objectContaining({ code: 'USAGE', message }));
});
