import { expect, test } from 'vitest';
import { Rig } from '../support/rig.js';

const STEPS = 'ssh\nprovision "shell" { inline "echo a" }\nprovision "shell" run="once" { inline "echo b" }';

test('up --dry-run tells what would be done to each VM and why, and does nothing', async () => {
  const operations: string[] = [];
  await using rig = await Rig.create({ before: async (operation) => void operations.push(operation) });
  await rig.declare({ stopped: STEPS, running: '', suspended: '', unfinished: STEPS });
  await rig.vmctl(['up', 'stopped', 'running', 'suspended']);
  await rig.vmctl(['up', 'unfinished', '--no-provision']);
  await rig.vmctl(['stop', 'stopped']);
  await rig.vmctl(['suspend', 'suspended']);
  await rig.declare({ stopped: STEPS, running: '', suspended: '', unfinished: STEPS, new: 'depends-on "running"' });
  operations.length = 0;
  const { exitCode, stdout, stderr } = await rig.vmctl(['up', '--dry-run']);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  expect(operations).toEqual([]);
  expect(stdout).toBe(
    [
      'stopped: start and provision, because it is stopped',
      '    run  step 1/2: shell echo a (always)',
      '    skip step 2/2: shell echo b (succeeded before (once))',
      'running: nothing to do, because it is running and provisioned',
      'suspended: resume, because it is suspended',
      'unfinished: provision, because it is running, but its provisioning was not finished',
      '    run  step 1/2: shell echo a (always)',
      '    run  step 2/2: shell echo b (has not succeeded yet)',
      'new: create, start and provision, because there is no such VM yet',
      '    waits for running',
      '',
    ].join('\n'),
  );
});

test('up and its plan tell which values of a VM are no longer as declared, and how to apply them', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: 'memory 1024\ncloud-init' });
  await rig.vmctl(['up']);
  await rig.declare({
    web: 'memory 2048\nvcpus 2\ndisk 3\nnetwork "user" { forward 8080 80 }\ncloud-init { hostname "w" }\nssh { user "me" }',
  });
  const told = [
    'vcpus is 1, and declared as 2',
    'memory is 1024 MiB, and declared as 2048 MiB',
    'disk is that of the image, and declared as 3 GiB',
    'network is user, and declared as user, forward 8080 80',
    'cloud-init is hostname web, a generated key, and declared as hostname w, a generated key',
    'ssh user is vm, and declared as me',
  ];
  const { stdout } = await rig.vmctl(['up', '--dry-run']);
  expect(stdout).toBe(
    [
      'web: nothing to do, because it is running and provisioned',
      ...told.map((line) => `    ${line}; to apply that: vmctl reload web`),
      '',
    ].join('\n'),
  );
  const { stderr } = await rig.vmctl(['up']);
  for (const line of told) expect(stderr).toContain(`${line}; to apply that, run: vmctl reload web`);
  await rig.vmctl(['reload', 'web']);
  expect((await rig.vmctl(['up', '--dry-run'])).stdout).toBe(
    'web: nothing to do, because it is running and provisioned\n',
  );
});

test('up tells that steps of a running VM have changed, and how to run what is due', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: STEPS });
  await rig.vmctl(['up']);
  expect((await rig.vmctl(['up'])).stderr).not.toContain('provision step');
  await rig.declare({ web: `${STEPS}\nprovision "shell" { inline "echo c" }` });
  expect((await rig.vmctl(['up'])).stderr).toContain(
    'provision step 3 is new or changed; to run what is due, run: vmctl provision web',
  );
  await rig.vmctl(['provision', 'web']);
  expect((await rig.vmctl(['up'])).stderr).not.toContain('provision step');
});

test('up --dry-run --json prints one document, errors included', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: STEPS });
  const other = await rig.write('other/VMFile.kdl', 'vm "taken" { image "../disk.raw" }');
  await rig.vmctl(['up', '--file', other]);
  await rig.declare({ web: STEPS, taken: '' });
  const { exitCode, stdout } = await rig.vmctl(['up', '--dry-run', '--json']);
  expect(exitCode).toBe(1);
  expect(JSON.parse(stdout)).toMatchObject({
    schemaVersion: 1,
    vms: [
      {
        name: 'web',
        action: 'create',
        changes: [],
        steps: [
          { number: 1, title: 'shell echo a', runs: true, reason: 'always' },
          { number: 2, title: 'shell echo b', runs: true, reason: 'has not succeeded yet' },
        ],
      },
      { name: 'taken', error: { code: 'VM_FOREIGN' } },
    ],
  });
});

test('up --dry-run --no-provision runs no step', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: STEPS });
  const { stdout } = await rig.vmctl(['up', '--dry-run', '--no-provision']);
  expect(stdout).toContain('skip step 1/2: shell echo a (provisioners are not run)');
});
