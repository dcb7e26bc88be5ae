/** The fake illumos host, held against what its commands are known to print: `test/fixtures/propolis/commands.json`. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { FakeHost, type HostState } from '../../support/propolis-host.js';

interface Fixture {
  readonly given: Partial<HostState>;
  readonly argv: readonly string[];
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

const fixtures: readonly Fixture[] = JSON.parse(
  readFileSync(new URL('../../fixtures/propolis/commands.json', import.meta.url), 'utf8'),
);

test.each(fixtures.map((fixture, i) => ({ ...fixture, title: `${i + 1}: ${fixture.argv.join(' ')}` })))(
  'the fake host answers as a real one: $title',
  ({ given, argv, exitCode, stdout, stderr }) => {
    expect(new FakeHost(given).execute(argv)).toEqual({ exitCode, stdout, stderr });
  },
);

test('the fake host lets only root change something, or who comes by pfexec', () => {
  const host = new FakeHost({ isRoot: false });
  const create = ['dladm', 'create-vnic', '-t', '-l', 'e1000g0', 'vnic0'];
  expect(host.execute(create)).toMatchObject({ exitCode: 1, stderr: 'dladm: permission denied\n' });
  expect(host.left()).toEqual([]);
  expect(host.execute(['pfexec', ...create]).exitCode).toBe(0);
  expect(host.left()).toEqual(['vnic0']);
});
