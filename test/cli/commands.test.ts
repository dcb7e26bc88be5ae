import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { generateKeyPair } from '../../src/ssh/keys.js';
import { Rig } from '../support/rig.js';

test('list prints a table with a column for each fact, and nothing else on stdout', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: 'memory 512\nvcpus 2\nnetwork "user" { lan "back" }', database: 'network "none"' });
  await rig.vmctl(['up']);
  const { stdout } = await rig.vmctl(['list']);
  expect(stdout).toBe(
    [
      'NAME      BACKEND  STATE    VCPUS  MEMORY    NETWORK  LAN         PID  SSH PORT',
      'database  noop     running  1      1024 MiB  none     -           -    -',
      'web       noop     running  2      512 MiB   user     10.77.0.11  -    -',
      '',
    ].join('\n'),
  );
});

test('list without VMs says what to do, on stderr', async () => {
  await using rig = await Rig.create();
  const { exitCode, stdout, stderr } = await rig.vmctl(['list']);
  expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: '' });
  expect(stderr).toContain('vmctl up');
});

test('status tells the last failure until the VM comes up', async () => {
  let broken = true;
  await using rig = await Rig.create({
    before: async (operation) => {
      if (operation === 'start' && broken) throw new Error('no power');
    },
  });
  await rig.declare({ web: '' });
  await rig.vmctl(['up']);
  const failed = JSON.parse((await rig.vmctl(['status', 'web', '--json'])).stdout);
  expect(failed).toMatchObject({ schemaVersion: 1, name: 'web', state: 'stopped', provisioning: 'pending' });
  expect(failed.lastFailure).toMatchObject({ step: 'start', error: { code: 'INTERNAL' } });
  broken = false;
  await rig.vmctl(['up']);
  const up = JSON.parse((await rig.vmctl(['status', 'web', '--json'])).stdout);
  expect(up).toMatchObject({ state: 'running', provisioning: 'done', lastFailure: null });
});

test('start and stop take several names; one that does not exist fails alone and gets near names', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '', db: '' });
  await rig.vmctl(['up']);
  const stopped = await rig.vmctl(['stop', 'web', 'bd']);
  expect(stopped.exitCode).toBe(1);
  expect(stopped.stderr).toContain('there is no VM "bd"');
  expect(stopped.stderr).toContain('"db"');
  expect(await rig.states()).toEqual({ db: 'running', web: 'stopped' });
  expect((await rig.vmctl(['start', 'web'])).exitCode).toBe(0);
  expect(await rig.states()).toEqual({ db: 'running', web: 'running' });
});

test('of a VM that was destroyed by the same command nobody is reminded', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '', db: '' });
  await rig.vmctl(['up']);
  const first = await rig.vmctl(['destroy', 'web', 'nobody', '--yes']);
  expect(first.exitCode).toBe(1);
  expect(first.stderr).toContain('there is no VM "nobody"\nhint: There are: db.\n');
  expect((await rig.vmctl(['destroy', 'db', 'nobody'])).stderr).toContain('hint: Which there are: vmctl list');
});

test('destroy asks on a terminal and does nothing without a yes', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '' });
  await rig.vmctl(['up']);
  const variables = { CI: '1' };
  const refused = await rig.vmctl(['destroy', 'web'], { terminal: true, stdin: 'n\n', variables });
  expect(refused.stderr).toContain('Destroy web, disks included? [y/N]');
  expect(refused.exitCode).toBe(1);
  const unanswered = await rig.vmctl(['destroy', 'web'], { terminal: true, stdin: '', variables });
  expect(unanswered.stderr).toContain('nothing was destroyed');
  expect(await rig.states()).toEqual({ web: 'running' });
  await rig.vmctl(['destroy', 'web'], { terminal: true, stdin: 'y\n', variables });
  expect(await rig.states()).toEqual({});
});

test('log shows the console, or the provisioners, or only the last lines', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '' });
  await rig.vmctl(['up']);
  expect((await rig.vmctl(['log', 'web'])).exitCode).toBe(1);
  await writeFile(join(rig.paths.vm('web'), 'console.log'), 'one\ntwo\nthree\n');
  await writeFile(join(rig.paths.vm('web'), 'provision.log'), 'step\n');
  expect((await rig.vmctl(['log', 'web'])).stdout).toBe('one\ntwo\nthree\n');
  expect((await rig.vmctl(['log', 'web', '--tail', '2'])).stdout).toBe('two\nthree\n');
  expect((await rig.vmctl(['log', 'web', '--provision'])).stdout).toBe('step\n');
  expect((await rig.vmctl(['log', 'web', '--console', '--provision'])).exitCode).toBe(2);
});

test('validate reports every mistake with exit code 3, and a good file with 0', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: 'vcpus 0', db: 'memroy 512' });
  const bad = await rig.vmctl(['validate', '--json']);
  expect(bad.exitCode).toBe(3);
  const document = JSON.parse(bad.stdout);
  expect(document).toMatchObject({ schemaVersion: 1, valid: false });
  expect(document.diagnostics).toHaveLength(2);
  await rig.declare({ web: '' });
  const good = await rig.vmctl(['validate']);
  expect(good).toMatchObject({ exitCode: 0, stdout: '' });
  expect(good.stderr).toContain('1 VM (web)');
});

test('validate reports a wrong configuration, and what is wrong in the VMFile all the same', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '' });
  await rig.write('.vmctlrc', '{ "acelerator": "tcg" }');
  const alone = await rig.vmctl(['validate']);
  expect(alone.exitCode).toBe(3);
  expect(alone.stderr).toContain('unknown key "acelerator"');
  expect(alone.stderr).toContain('is valid: 1 VM');
  const named = await rig.vmctl(['validate', '--file', 'VMFile.kdl', '--json']);
  expect(named.exitCode).toBe(3);
  expect(JSON.parse(named.stdout)).toMatchObject({
    valid: false,
    diagnostics: [],
    configuration: { code: 'CONFIG_INVALID' },
  });
  await rig.declare({ web: 'memroy 512' });
  const both = await rig.vmctl(['validate']);
  expect(both.exitCode).toBe(3);
  expect(both.stderr).toContain('unknown key "acelerator"');
  expect(both.stderr).toContain('memroy');
});

test('create without a key says that nobody can log in', async () => {
  await using rig = await Rig.create();
  await rig.write('id.pub', generateKeyPair('me@host').publicKey);
  const bare = await rig.vmctl(['create', '--name', 'bare', '--image', 'disk.raw']);
  expect(bare.exitCode).toBe(0);
  expect(bare.stderr).toContain(
    'note: without --ssh-key or --cloud-init, only who knows a user of the image can log in',
  );
  const keyed = await rig.vmctl(['create', '--name', 'keyed', '--image', 'disk.raw', '--ssh-key', 'id.pub']);
  expect(keyed.exitCode).toBe(0);
  expect(keyed.stderr).not.toContain('log in');
});

test('create takes no URL for a path', async () => {
  await using rig = await Rig.create();
  const { exitCode, stderr } = await rig.vmctl(['create', '--name', 'x', '--image', 'https://example.org/x.qcow2']);
  expect(exitCode).toBe(2);
  expect(stderr).toContain('hint: Write: --image-url https://example.org/x.qcow2');
});

test('ssh and exec refuse a VM that is stopped or has no guest, and say what to do', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '' });
  await rig.vmctl(['up']);
  expect((await rig.vmctl(['exec', 'web', '--', 'true'])).stderr).toContain('the Noop backend has no guests');
  await rig.vmctl(['stop', 'web']);
  const { exitCode, stderr } = await rig.vmctl(['ssh', 'web']);
  expect(exitCode).toBe(255);
  expect(stderr).toContain('VM "web" is stopped');
  expect(stderr).toContain('vmctl start web');
});

test('where there is no guest to reach, ssh, exec and cp have an exit code of their own, not the guest’s 1', async () => {
  await using rig = await Rig.create();
  await rig.declare({ running: '', paused: '', off: '' });
  await rig.vmctl(['up']);
  await rig.vmctl(['suspend', 'paused']);
  await rig.vmctl(['stop', 'off']);
  for (const name of ['running', 'paused', 'off', 'nobody']) {
    for (const words of [
      ['ssh', name, 'true'],
      ['exec', name, 'true'],
      ['cp', `${name}:a`, 'b'],
    ]) {
      expect({ words, exitCode: (await rig.vmctl(words)).exitCode }).toEqual({ words, exitCode: 255 });
    }
  }
});

test('ssh without a name means the only VM of the VMFile, and asks for a name where there are two', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '' });
  await rig.vmctl(['up']);
  expect((await rig.vmctl(['ssh'])).stderr).toContain('VM "web" cannot be logged in to');
  expect((await rig.vmctl(['ssh', '--', 'uptime'])).stderr).toContain('VM "web" cannot be logged in to');
  await rig.declare({ web: '', db: '' });
  await rig.vmctl(['up']);
  const { exitCode, stderr } = await rig.vmctl(['ssh']);
  expect(exitCode).toBe(2);
  expect(stderr).toContain('db, web');
});

test('cp refuses places that are not one in a VM and one here, VMs that do not exist, and VMs without a guest', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '' });
  await rig.vmctl(['up']);
  const wrong = await rig.vmctl(['cp', 'a', 'b']);
  expect(wrong).toMatchObject({ exitCode: 2, stdout: '' });
  expect(wrong.stderr).toContain('web:/tmp/site.conf');
  const unknown = await rig.vmctl(['cp', 'a', 'wbe:b']);
  expect(unknown).toMatchObject({ exitCode: 255, stderr: expect.stringContaining('Did you mean "web"?') });
  expect((await rig.vmctl(['cp', 'a', 'web:b'])).stderr).toContain('the Noop backend has no guests');
  await rig.vmctl(['stop', 'web']);
  expect((await rig.vmctl(['cp', 'web:b', 'a'])).stderr).toContain('VM "web" is stopped');
});

test('ssh-config tells which VMs cannot be reached and why, and still prints the others', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '', db: '' });
  const none = await rig.vmctl(['ssh-config']);
  expect(none).toMatchObject({ exitCode: 0, stdout: '' });
  expect(none.stderr).toContain('vmctl up');
  await rig.vmctl(['up']);
  await rig.vmctl(['stop', 'web']);
  const { exitCode, stdout, stderr } = await rig.vmctl(['ssh-config', '--json']);
  expect(exitCode).toBe(1);
  expect(JSON.parse(stdout)).toEqual({ schemaVersion: 1, hosts: [] });
  expect(stderr).toContain('VM "web" is stopped');
  expect(stderr).toContain('VM "db" cannot be logged in to');
  expect((await rig.vmctl(['ssh-config', 'bd'])).stderr).toContain('there is no VM "bd"');
});

test('console refuses a VM that is stopped or has no console, and leaves no lock', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '' });
  await rig.vmctl(['up']);
  const none = await rig.vmctl(['console', 'web']);
  expect(none).toMatchObject({ exitCode: 1, stdout: '' });
  expect(none.stderr).toContain('VM "web" has no serial console: the Noop backend has no guests');
  await rig.vmctl(['stop', 'web']);
  const stopped = await rig.vmctl(['console', 'web']);
  expect(stopped.exitCode).toBe(1);
  expect(stopped.stderr).toContain('VM "web" is stopped');
  expect(stopped.stderr).toContain('vmctl start web');
  expect(await readdir(rig.paths.locks)).toEqual([]);
});

test('a VMFile that is named, not there and has no VMs is an error, also where only its VMs are asked for', async () => {
  await using rig = await Rig.create();
  await rig.write('dev.kdl', 'vm "web" { image "disk.raw" }');
  await rig.vmctl(['up', '--file', 'dev.kdl']);
  for (const words of [['down'], ['down', '--destroy'], ['down', 'web'], ['ssh'], ['ssh-config']]) {
    const { exitCode, stderr } = await rig.vmctl([...words, '--file', 'dve.kdl']);
    expect({ words, exitCode }).toEqual({ words, exitCode: 3 });
    expect(stderr).toContain(`there is no VMFile at ${rig.project}/dve.kdl`);
    expect(stderr).toContain('hint: Did you mean "dev.kdl"?');
  }
  const far = await rig.vmctl(['down'], { variables: { VMCTL_FILE: 'something/else.kdl' } });
  expect(far).toMatchObject({ exitCode: 3, stderr: expect.stringContaining('vmctl list --json') });
  expect(await rig.states()).toEqual({ web: 'running' });
  // Nobody has named the one of this folder.
  expect((await rig.vmctl(['down'])).exitCode).toBe(0);
});

test('VMs go down whose VMFile is deleted', async () => {
  await using rig = await Rig.create();
  const file = await rig.write('dev.kdl', 'vm "web" { image "disk.raw" }');
  await rig.vmctl(['up', '--file', 'dev.kdl']);
  await rm(file);
  expect((await rig.vmctl(['down', '--destroy', '--file', 'dev.kdl'])).exitCode).toBe(0);
  expect(await rig.states()).toEqual({});
});
