import { describe, expect, it } from 'vitest';
import type { EntryKind } from '../../src/ssh/client.js';
import { copyDestination } from '../../tasks/copy-destination.js';

interface Case {
  readonly from: string;
  readonly kind?: 'file' | 'folder';
  readonly to: string;
  readonly there?: EntryKind | null;
  readonly parent?: EntryKind | null;
}

function decide({ from, kind = 'file', to, there = null, parent = 'folder' }: Case): string {
  return copyDestination({
    source: { path: from, kind, shown: `SRC ${from}` },
    destination: { path: to, kind: there, parent, shown: `DST ${to}` },
  });
}

describe('a copy', () => {
  it.each<[string, Case]>([
    ['/tmp/a', { from: 'x/a', to: '/tmp', there: 'folder' }],
    ['/tmp/a', { from: 'x/a', to: '/tmp/', there: 'folder' }],
    ['/tmp/a', { from: 'x/a/', kind: 'folder', to: '/tmp', there: 'folder' }],
    ['/a', { from: 'a', to: '/', there: 'folder' }],
    ['a', { from: '/x/a', to: '', there: 'folder' }],
    ['/tmp/ -rf', { from: ' -rf', to: '/tmp', there: 'folder' }],
  ])('goes into a folder that is there, under its own name: %s', (expected, facts) => {
    expect(decide(facts)).toBe(expected);
  });

  it.each(['.', '..', '/', '', 'x/.', '../..'])('of %j is of what is in that folder', (from) => {
    expect(decide({ from, kind: 'folder', to: '/srv/', there: 'folder' })).toBe('/srv');
  });

  it('is called as the destination says where there is nothing', () => {
    expect(decide({ from: 'a', to: 'b' })).toBe('b');
    expect(decide({ from: 'a', kind: 'folder', to: 'new/' })).toBe('new');
  });

  it('replaces a file by a file', () => {
    expect(decide({ from: 'a', to: 'b', there: 'file' })).toBe('b');
  });

  it.each<[string, Case]>([
    ['a is a folder, and b is a file', { from: 'a', kind: 'folder', to: 'b', there: 'file' }],
    ['b is a file, and the slash at its end asks for a folder', { from: 'a', to: 'b/', there: 'file' }],
    ['there is no folder b', { from: 'a', to: 'b/' }],
    ['there is no folder no/such', { from: 'a', to: 'no/such/b', parent: null }],
    ['there is no folder x', { from: 'a', to: 'x/b', parent: 'file' }],
    ['/dev/null is neither a file nor a folder', { from: 'a', to: '/dev/null', there: 'other' }],
  ])('is refused: %s', (reason, facts) => {
    expect(() => decide(facts)).toThrow(`cannot copy SRC ${facts.from} to DST ${facts.to}: ${reason}`);
  });
});
