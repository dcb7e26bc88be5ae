import { describe, expect, it } from 'vitest';
import { Rig } from '../support/rig.js';

async function complete(rig: Rig, ...words: readonly string[]): Promise<readonly string[]> {
  const { exitCode, stdout, stderr } = await rig.vmctl(['__complete', ...words]);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  return stdout.split('\n').filter((line) => line !== '');
}

/** The words alone. */
async function completeWords(rig: Rig, ...words: readonly string[]): Promise<readonly string[]> {
  return (await complete(rig, ...words)).map((line) => line.split('\t')[0] ?? '');
}

async function twoVms(): Promise<Rig> {
  const rig = await Rig.create();
  await rig.declare({ web: '', worker: '', db: '' });
  await rig.vmctl(['up', 'web', 'db']);
  return rig;
}

describe('completion', () => {
  it('knows the commands, with what they do', async () => {
    await using rig = await Rig.create();
    expect(await complete(rig, 'susp')).toEqual([
      'suspend\tpause the vCPUs of VMs, or save their memory and end them until they are resumed',
    ]);
    expect(await completeWords(rig, 'st')).toEqual(['start', 'stop', 'status']);
    expect(await completeWords(rig, 'help', 'relo')).toEqual(['reload']);
  });

  it('knows the VMs that there are', async () => {
    await using rig = await twoVms();
    for (const command of [
      'start',
      'stop',
      'destroy',
      'status',
      'ssh',
      'exec',
      'log',
      'suspend',
      'crash',
      'disconnect',
      'reboot',
      'down',
    ]) {
      expect(await completeWords(rig, command, '')).toEqual(['db', 'web']);
    }
    expect(await complete(rig, 'stop', 'web', 'd')).toEqual([`db\t${rig.project}/VMFile.kdl`]);
    expect(await completeWords(rig, 'status', 'web', '')).toEqual([]);
  });

  it('knows the VMs that the VMFile declares where they are brought up, also while it has a mistake', async () => {
    await using rig = await twoVms();
    expect(await completeWords(rig, 'up', 'w')).toEqual(['web', 'worker']);
    expect(await completeWords(rig, 'reload', '--name', 'wo')).toEqual(['worker']);
    await rig.declare({ one: 'memroy 2', two: '' });
    expect(await completeWords(rig, 'up', '')).toEqual(['one', 'two']);
    await rig.write('other.kdl', 'vm "far" { image "disk.raw" }');
    expect(await completeWords(rig, 'up', '--file', 'other.kdl', '')).toEqual(['far']);
  });

  it('knows groups of VMs where several VMs can be named', async () => {
    await using rig = await Rig.create();
    await rig.write('VMFile.kdl', 'vm "worker" count=2 { image "disk.raw" }\nvm "web" { image "disk.raw" }');
    expect(await completeWords(rig, 'up', 'w')).toEqual(['worker', 'worker-1', 'worker-2', 'web']);
    await rig.vmctl(['up']);
    for (const command of ['stop', 'down', 'ssh-config']) {
      expect(await completeWords(rig, command, 'wor')).toEqual(['worker', 'worker-1', 'worker-2']);
    }
    expect(await completeWords(rig, 'exec', 'wor')).toEqual(['worker-1', 'worker-2']);
    expect(await completeWords(rig, 'cp', 'wor')).toEqual(['worker-1:', 'worker-2:', ':files']);
  });

  it('knows the options, without those that are there already', async () => {
    await using rig = await Rig.create();
    expect(await complete(rig, 'log', '--con')).toEqual([
      '--console\twhat the guest printed on its serial console (the default)',
    ]);
    const options = await completeWords(rig, 'up', '--json', '-f', 'x', '--');
    expect(options).toContain('--parallel');
    expect(options).not.toContain('--json');
    expect(options).not.toContain('--file');
  });

  it('has no options of vmctl for a command in a VM', async () => {
    await using rig = await twoVms();
    expect(await completeWords(rig, 'exec', 'web', '--u')).toEqual(['--user']);
    expect(await completeWords(rig, 'exec', 'web', 'tail', '--u')).toEqual([]);
    expect(await completeWords(rig, 'exec', 'web', '--', '--u')).toEqual([]);
  });

  it('knows subcommands and choices', async () => {
    await using rig = await Rig.create();
    expect(await completeWords(rig, 'image', 'pul')).toEqual(['pull']);
    expect(await completeWords(rig, 'image', 'pre')).toEqual(['presets']);
    expect(await completeWords(rig, 'image', 'presets', '--')).toContain('--json');
    expect(await completeWords(rig, 'completion', '')).toEqual(['bash', 'zsh', 'fish']);
  });

  it('leaves paths to the shell', async () => {
    await using rig = await Rig.create();
    expect(await complete(rig, 'up', '--file', '')).toEqual([':files']);
    expect(await complete(rig, 'create', '--image', '')).toEqual([':files']);
  });

  it('knows VMs and leaves paths to the shell where something is copied', async () => {
    await using rig = await twoVms();
    const here = `${rig.project}/VMFile.kdl`;
    expect(await complete(rig, 'cp', 'w')).toEqual([`web:\t${here}`, ':files']);
    expect(await complete(rig, 'cp', 'a', 'd')).toEqual([`db:\t${here}`, ':files']);
  });

  it.each([
    [['create', '--name', '']],
    [['up', '--parallel', '']],
    [['exec', 'web', '--', '']],
    [['nonsense', '']],
    [['constructor', '']],
  ])('of %j says nothing and fails never', async (words) => {
    await using rig = await twoVms();
    expect(await complete(rig, ...words)).toEqual([]);
  });

  it('fails never, even where nothing can be read', async () => {
    await using rig = await Rig.create();
    await rig.write('VMFile.kdl', '\0{{{');
    await rig.write('vmctl.config.json', '{');
    expect(await complete(rig, 'up', '')).toEqual([]);
  });

  it.each(['bash', 'zsh', 'fish'])('prints a script for %s', async (shell) => {
    await using rig = await Rig.create();
    const { exitCode, stdout, stderr } = await rig.vmctl(['completion', shell]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    expect(stdout).toContain('__complete');
  });

  it('for another shell is a usage error that names those there are', async () => {
    await using rig = await Rig.create();
    const { exitCode, stderr } = await rig.vmctl(['completion', 'tcsh']);
    expect(exitCode).toBe(2);
    expect(stderr).toContain('Allowed choices are bash, zsh, fish');
  });
});
