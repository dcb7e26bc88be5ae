import { expect, test } from 'vitest';
import { Rig } from '../support/rig.js';

/** The steps that were run, and those that were not, by what they echo. */
function steps(stderr: string): { readonly run: readonly string[]; readonly skipped: readonly string[] } {
  const matches = (pattern: RegExp) => [...stderr.matchAll(pattern)].map(([, word]) => word ?? '');
  return { run: matches(/shell echo (\w+) \(not run/g), skipped: matches(/skipped, .*: shell echo (\w+)$/gm) };
}

const STEPS = ['always', 'once', 'on-change'].map(
  (run) => `provision "shell" run="${run}" { inline "echo ${run.replace('on-', '')}" }`,
);

test('a stopped VM that is brought up runs its steps again as their `run` says', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: `ssh\n${STEPS.join('\n')}` });
  expect(steps((await rig.vmctl(['up'])).stderr)).toEqual({ run: ['always', 'once', 'change'], skipped: [] });
  await rig.vmctl(['down']);
  const { stderr } = await rig.vmctl(['up']);
  expect(steps(stderr)).toEqual({ run: ['always'], skipped: ['once', 'change'] });
  expect(stderr).toContain('step 2/3 skipped, succeeded before (once): shell echo once');
  expect(stderr).toContain('provision: 1 step run, 2 skipped');
});

test('an edited step runs again on-change, and not with once', async () => {
  await using rig = await Rig.create();
  const declare = (text: string) =>
    rig.declare({
      web: `ssh\nprovision "shell" run="once" { inline "echo ${text}" }\nprovision "shell" run="on-change" { inline "echo ${text}" }`,
    });
  await declare('one');
  await rig.vmctl(['up']);
  await rig.vmctl(['down']);
  await declare('two');
  const { stderr } = await rig.vmctl(['up']);
  expect(steps(stderr)).toEqual({ run: ['two'], skipped: ['two'] });
  expect(stderr).toContain('step 1/2 skipped, succeeded before (once); what it does has changed since: shell echo two');
});

test('a file that a step copies makes it run again when its content has changed', async () => {
  await using rig = await Rig.create();
  await rig.write('site.conf', 'one');
  await rig.declare({
    web: 'ssh\nprovision "file" run="on-change" { source "site.conf"; destination "/tmp/site.conf" }',
  });
  await rig.vmctl(['up']);
  await rig.vmctl(['down']);
  expect((await rig.vmctl(['up'])).stderr).toContain('step 1/1 skipped, has not changed: file site.conf');
  await rig.vmctl(['down']);
  await rig.write('site.conf', 'two');
  expect((await rig.vmctl(['up'])).stderr).toContain('provision: 1 step run');
});

test('a VM that is made anew has run nothing yet', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: 'ssh\nprovision "shell" run="once" { inline "echo once" }' });
  await rig.vmctl(['up']);
  await rig.vmctl(['destroy', 'web']);
  expect(steps((await rig.vmctl(['up'])).stderr)).toEqual({ run: ['once'], skipped: [] });
});
