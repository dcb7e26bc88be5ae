import { readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { VM_FILES } from '../../src/paths.js';
import { Rig } from '../support/rig.js';

async function running() {
  const rig = await Rig.create();
  await rig.declare({ web: '' });
  await rig.vmctl(['up']);
  return rig;
}

async function tags(rig: Rig): Promise<readonly string[]> {
  const { stdout } = await rig.vmctl(['snapshots', 'web', '--json']);
  const { snapshots }: { readonly snapshots: readonly { readonly tag: string }[] } = JSON.parse(stdout);
  return snapshots.map(({ tag }) => tag);
}

describe('snapshots', () => {
  test('are taken of a VM that goes on, listed, restored any number of times, and removed', async () => {
    await using rig = await running();
    expect((await rig.vmctl(['snapshot', 'web', 'first'])).exitCode).toBe(0);
    await rig.vmctl(['snapshot', 'web', 'second']);
    expect(await rig.states()).toEqual({ web: 'running' });
    expect(await tags(rig)).toEqual(['first', 'second']);
    await rig.vmctl(['stop', 'web']);
    expect((await rig.vmctl(['restore', 'web', 'first'])).stderr).toContain('as it was at "first"');
    expect(await rig.states()).toEqual({ web: 'running' });
    expect((await rig.vmctl(['restore', 'web', 'first'])).exitCode).toBe(0);
    expect((await rig.vmctl(['snapshot', 'web', 'first', '--delete'])).exitCode).toBe(0);
    expect(await tags(rig)).toEqual(['second']);
  });

  test('of one name are not overwritten, and a name that is not there is told with near ones', async () => {
    await using rig = await running();
    await rig.vmctl(['snapshot', 'web', 'clean']);
    const again = await rig.vmctl(['snapshot', 'web', 'clean']);
    expect(again.exitCode).toBe(2);
    expect(again.stderr).toContain('has a snapshot "clean" already\nhint: Take another name, or remove it first');
    const typo = await rig.vmctl(['restore', 'web', 'claen']);
    expect(typo.exitCode).toBe(1);
    expect(typo.stderr).toContain('VM "web" has no snapshot "claen"\nhint: Did you mean "clean"?');
    expect((await rig.vmctl(['snapshot', 'web', '../x'])).stderr).toContain('a snapshot cannot be called "../x"');
    // None of that is the VM's failure.
    expect((await rig.vmctl(['status', 'web'])).stdout).not.toContain('last failure');
    expect(await rig.states()).toEqual({ web: 'running' });
  });

  test('need a VM that runs', async () => {
    await using rig = await running();
    await rig.vmctl(['stop', 'web']);
    expect((await rig.vmctl(['snapshot', 'web', 'first'])).stderr).toContain(
      'cannot snapshot VM "web": it is stopped\nhint: Start it with: vmctl start web',
    );
    expect(await tags(rig)).toEqual([]);
  });

  test('leave the cables of the VM as they are, and a VM that goes back to one has all of them in', async () => {
    await using rig = await running();
    const cables = async () => JSON.parse((await rig.vmctl(['status', 'web', '--json'])).stdout).unplugged;
    await rig.vmctl(['disconnect', 'web']);
    expect((await rig.vmctl(['snapshot', 'web', 'cut'])).exitCode).toBe(0);
    expect(await cables()).toEqual(['outside']);
    await rig.vmctl(['restore', 'web', 'cut']);
    expect(await cables()).toEqual([]);
  });

  test('give back how far the VM was provisioned', async () => {
    await using rig = await running();
    const provisioning = async () => JSON.parse((await rig.vmctl(['status', 'web', '--json'])).stdout).provisioning;
    await rig.vmctl(['snapshot', 'web', 'done']);
    await rig.vmctl(['reboot', 'web']);
    expect(await provisioning()).toBe('pending');
    await rig.vmctl(['restore', 'web', 'done']);
    expect(await provisioning()).toBe('done');
  });

  test('bring back where the console of their boot begins, for what is waited for there', async () => {
    await using rig = await running();
    await rig.vmctl(['snapshot', 'web', 'first']);
    const consoleLog = join(rig.paths.vm('web'), VM_FILES.consoleLog);
    const begin = async () =>
      JSON.parse(await readFile(join(rig.paths.vm('web'), VM_FILES.record), 'utf8')).consoleStart;
    await writeFile(consoleLog, 'service started\n');
    await rig.vmctl(['stop', 'web']);
    await rig.vmctl(['start', 'web']);
    expect(await begin()).toEqual({ from: 16, frozen: null });
    await rig.vmctl(['restore', 'web', 'first']);
    expect(await begin()).toEqual({ from: 0, frozen: null });
  });

  test('go with their VM', async () => {
    await using rig = await running();
    await rig.vmctl(['snapshot', 'web', 'first']);
    await rig.vmctl(['down', '--destroy']);
    expect(await readdir(join(rig.paths.vms))).toEqual([]);
  });
});

describe('a VM that is suspended to the disk', () => {
  test('has no process, says so, and goes on with resume and with up', async () => {
    await using rig = await running();
    for (const next of [['resume', 'web'], ['up'], ['start', 'web']]) {
      expect((await rig.vmctl(['suspend', 'web', '--to-disk'])).exitCode).toBe(0);
      expect(await rig.states()).toEqual({ web: 'stopped' });
      expect((await rig.vmctl(['list'])).stderr).toContain('web: suspended to the disk at 2');
      expect((await rig.vmctl(['up', '--dry-run'])).stdout).toContain('it is suspended to the disk, and goes on');
      const { stderr } = await rig.vmctl(next);
      expect(stderr).toContain('going on from its saved memory');
      expect(await rig.states()).toEqual({ web: 'running' });
      expect((await rig.vmctl(['list'])).stderr).not.toContain('suspended');
    }
  });

  test('gives up its memory when it is stopped', async () => {
    await using rig = await running();
    await rig.vmctl(['suspend', 'web', '--to-disk']);
    expect((await rig.vmctl(['suspend', 'web', '--to-disk'])).stderr).toContain('already suspended to the disk');
    expect((await rig.vmctl(['stop', 'web'])).stderr).toContain('its saved memory is given up');
    expect((await rig.vmctl(['resume', 'web'])).stderr).toContain('cannot resume VM "web": it is stopped');
  });
});
