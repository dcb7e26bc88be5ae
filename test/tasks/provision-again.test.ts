import { expect, test } from 'vitest';
import { Rig } from '../support/rig.js';

const STEP = 'ssh\nprovision "shell" { inline "echo hello" }';

test('provision runs the steps of running VMs again', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: STEP, db: STEP });
  await rig.vmctl(['up']);
  const { exitCode, stderr } = await rig.vmctl(['provision']);
  expect(exitCode).toBe(0);
  expect(stderr.match(/shell echo hello \(not run/g)).toHaveLength(2);
});

test('provision prints its events as JSON where that is asked for, and how many VMs it was', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: STEP, db: STEP, bare: '' });
  await rig.vmctl(['up']);
  const { exitCode, stdout, stderr } = await rig.vmctl(['provision', '--json', '--timeout', '1m']);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  const lines = stdout.trim().split('\n');
  expect(lines.map((line) => JSON.parse(line)).at(-1)).toEqual({
    schemaVersion: 1,
    type: 'result',
    provisioned: 2,
    unchanged: 1,
    failed: 0,
  });
});

test('provision of a VM that does not run says so and how to bring it up; the others are provisioned', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: STEP, stopped: STEP, suspended: STEP });
  await rig.vmctl(['up']);
  await rig.vmctl(['stop', 'stopped']);
  await rig.vmctl(['suspend', 'suspended']);
  await rig.declare({ web: STEP, stopped: STEP, suspended: STEP, absent: STEP });
  const { exitCode, stderr } = await rig.vmctl(['provision', 'web', 'stopped', 'suspended', 'absent', 'wbe']);
  expect(exitCode).toBe(1);
  expect(stderr).toContain('cannot provision VM "stopped": it is stopped\nhint: Run: vmctl up stopped');
  expect(stderr).toContain('cannot provision VM "suspended": it is suspended\nhint: Run: vmctl up suspended');
  expect(stderr).toContain('cannot provision VM "absent": it does not exist yet\nhint: Run: vmctl up absent');
  expect(stderr).toContain('the VMFile has no VM "wbe"\nhint: Did you mean "web"?');
  expect(stderr.match(/shell echo hello \(not run/g)).toHaveLength(1);
});

test('provision runs the steps of VMs that others depend on first', async () => {
  await using rig = await Rig.create();
  await rig.declare({ app: `${STEP}\ndepends-on "db"`, db: STEP.replace('hello', 'first') });
  await rig.vmctl(['up']);
  const { stderr } = await rig.vmctl(['provision']);
  expect(stderr.indexOf('echo first (not run')).toBeGreaterThan(-1);
  expect(stderr.indexOf('echo first (not run')).toBeLessThan(stderr.indexOf('echo hello (not run'));
});
