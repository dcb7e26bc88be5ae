import { readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, expectTypeOf, test } from 'vitest';
import { attachIn } from '../../src/api/attach.js';
import { UpError } from '../../src/api/errors.js';
import type { RunningVm, StoppedVm } from '../../src/api/vm-types.js';
import { downIn, planIn, upIn } from '../../src/api/up.js';
import type { up } from '../../src/api/up.js';
import { VmctlError } from '../../src/errors.js';
import type { VmEvent } from '../../src/model/event.js';
import { putImage } from '../support/cached-image.js';
import { failure } from '../support/failure.js';
import { finish } from '../support/machine-room.js';
import { Programs } from '../support/programs.js';
import { gate } from '../support/rig.js';

const WEB = { image: 'disk.raw', provision: [{ inline: 'true' }] };

test('up gives the VMs of a VMFile by name, apart from the VMs of the user, and leaves nothing at the end', async () => {
  await using programs = await Programs.create();
  await programs.write('VMFile.kdl', 'vm "web" { image "disk.raw"; depends-on "db" }\nvm "db" { image "disk.raw" }');
  const events: VmEvent[] = [];
  {
    await using vms = await upIn({ vms: ['web'], onEvent: (event) => events.push(event) }, programs.outside);
    expect(vms.names).toEqual(['web', 'db']);
    expect(await vms.web.status()).toMatchObject({ name: 'web', state: 'running', provisioning: 'done' });
    expect(vms.get('db').state).toBe('running');
    expect(vms.stateDirectory).toBe(join(programs.paths.runs, (await programs.runs()).join()));
    // Of the user's own: no list of VMs, and no VM.
    expect(await readdir(programs.paths.root)).toEqual(['images', 'locks', 'runs', 'warm']);
  }
  expect(await programs.runs()).toEqual([]);
  expect(events.filter(({ type }) => type === 'done').map(({ vm, step }) => `${vm} ${step}`)).toContain(
    'web provision',
  );
});

test('a VM goes from state to state, and each lets somebody do what is possible in it', async () => {
  await using programs = await Programs.create();
  await using vms = await upIn({ vms: { web: WEB } }, programs.outside);
  const paused = await vms.web.suspend();
  expect((await paused.status()).state).toBe('suspended');
  const stopped = await (await paused.resume()).stop();
  expect([stopped.state, (await stopped.status()).state]).toEqual(['stopped', 'stopped']);
  expect(await failure(vms.web.exec('true'))).toMatchObject({ code: 'VM_STATE', message: 'VM "web" is stopped' });
  const again = await stopped.start();
  expect((await (await again.reboot()).status()).state).toBe('running');
  expect(await failure(again.exec('true'))).toMatchObject({ code: 'UNSUPPORTED' });
  expect(() => again.ssh).toThrow('VM "web" cannot be logged in to');
  expect(() => again.port(80)).toThrow('no port of this host leads to port 80 of VM "web"');
  expect(await failure(again.screenshot())).toMatchObject({ code: 'UNSUPPORTED' });
  await again.destroy();
  expect(await readdir(join(vms.stateDirectory, 'vms'))).toEqual([]);
});

test('failures on purpose are told in events and in the status, and end with a VM that runs', async () => {
  await using programs = await Programs.create();
  const steps: string[] = [];
  const onEvent = ({ step, type }: VmEvent) => void (type === 'done' && steps.push(step));
  await using vms = await upIn({ vms: { web: WEB }, onEvent }, programs.outside);
  steps.length = 0;
  await vms.web.disconnect();
  expect((await vms.web.status()).unplugged).toEqual(['outside']);
  await vms.web.connect('outside');
  expect((await vms.web.status()).unplugged).toEqual([]);
  expect(await failure(vms.web.disconnect('lan'))).toMatchObject({ code: 'USAGE', hint: 'It has: outside' });
  const off = await (await (await vms.web.reboot({ hard: true })).pause()).crash();
  expect([off.state, (await off.status()).powerCutAt]).toEqual(['stopped', expect.stringMatching(/^\d{4}-.*Z$/)]);
  expect((await (await off.start()).status()).powerCutAt).toBeNull();
  expect(steps).toEqual(['disconnect', 'connect', 'reboot', 'suspend', 'crash', 'start']);
});

test('the VMs of a group are had by the name of the group, in their order', async () => {
  await using programs = await Programs.create();
  await using vms = await upIn({ vms: { worker: { ...WEB, count: 2 }, web: WEB } }, programs.outside);
  expect(vms.names).toEqual(['worker-1', 'worker-2', 'web']);
  expect(vms.group('worker').map(({ name }) => name)).toEqual(['worker-1', 'worker-2']);
  expect(vms.get('worker-2').name).toBe('worker-2');
  expect(() => vms.worker).toThrow('"worker" is 2 VMs, and one is needed');
  expect(() => vms.get('worker')).toThrow('"worker" is 2 VMs, and one is needed');
  expect(() => vms.group('web')).toThrow('there is no group "web"');
  await using attached = await attachIn(vms.toJSON(), programs.outside);
  expect(attached.group('worker').map(({ state }) => state)).toEqual(['running', 'running']);
});

test('the types know the names that were asked for, and that a stopped VM has no exec', () => {
  expectTypeOf<StoppedVm>().not.toHaveProperty('exec');
  expectTypeOf<RunningVm>().toHaveProperty('exec');
  type Declared = Awaited<ReturnType<typeof up<'web'>>>;
  expectTypeOf<Declared['web']>().toEqualTypeOf<RunningVm>();
  expectTypeOf<Declared>().not.toHaveProperty('db');
});

test('when a VM does not come up, up tells each failure, and everything is removed', async () => {
  await using programs = await Programs.create({
    before: async (operation, name) => {
      if (operation === 'start' && name === 'db')
        throw new VmctlError('QEMU_START', 'no power', { hint: 'Plug it in.' });
    },
  });
  const vms = { web: { ...WEB, dependsOn: 'db' }, db: WEB, solo: WEB };
  const error = await failure(upIn({ vms }, programs.outside));
  expect(error).toBeInstanceOf(UpError);
  expect(error).toMatchObject({
    code: 'UP_FAILED',
    failures: [
      { vm: 'web', step: 'start', error: { code: 'DEPENDENCY_FAILED' } },
      { vm: 'db', step: 'start', error: { code: 'QEMU_START', hint: 'Plug it in.' } },
    ],
  });
  expect(error.message).toContain('db: no power');
  expect(await programs.runs()).toEqual([]);
});

test('up can be cancelled, and leaves nothing then', async () => {
  const cancel = new AbortController();
  const started = gate();
  await using programs = await Programs.create({
    before: async (operation, _name, signal) => {
      if (operation !== 'start') return;
      started.open();
      await new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    },
  });
  const coming = failure(upIn({ vms: { web: WEB }, signal: cancel.signal }, programs.outside));
  await started.passed;
  cancel.abort();
  expect((await coming).code).toBe('ABORTED');
  expect(await programs.runs()).toEqual([]);
});

test('two runs at once have VMs of their own, and images in common', async () => {
  await using programs = await Programs.create();
  const [one, other] = await Promise.all([1, 2].map(() => upIn({ vms: { web: WEB } }, programs.outside)));
  expect(one?.stateDirectory).not.toBe(other?.stateDirectory);
  expect(await programs.runs()).toHaveLength(2);
  await one?.down();
  expect((await other?.get('web').status())?.state).toBe('running');
  await other?.down();
  expect(await programs.runs()).toEqual([]);
});

test('declared host ports are free ones in a run, so that two runs do not want the same', async () => {
  await using programs = await Programs.create();
  const network = { kind: 'user', forwards: [{ host: 8080, guest: 80 }] } as const;
  await using vms = await upIn({ vms: { web: { ...WEB, network } } }, programs.outside);
  const handle = JSON.parse(await readFile(join(vms.stateDirectory, 'vms', 'web', 'vm.json'), 'utf8'));
  expect(handle.spec.network.forwards).toEqual([{ host: 0, guest: 80 }]);
});

test('with reuse the next run finds the VMs as they are; what has changed is made anew', async () => {
  await using programs = await Programs.create();
  await programs.write('setup.sh', 'true\n');
  const vms = { web: { image: 'disk.raw', provision: [{ script: 'setup.sh' }] } };
  const uuidAfterRun = async (): Promise<string> => {
    await using fleet = await upIn({ vms, reuse: true }, programs.outside);
    return JSON.parse(await readFile(join(fleet.stateDirectory, 'vms', 'web', 'vm.json'), 'utf8')).uuid;
  };
  const first = await uuidAfterRun();
  expect(await programs.runs()).toEqual([expect.stringMatching(/^warm-/)]);
  expect((await planIn({ vms, reuse: true }, programs.outside)).vms).toMatchObject([{ name: 'web', action: 'none' }]);
  expect(await uuidAfterRun()).toBe(first);
  await programs.write('setup.sh', 'false\n');
  expect((await planIn({ vms, reuse: true }, programs.outside)).vms).toMatchObject([{ name: 'web', action: 'create' }]);
  expect(await uuidAfterRun()).not.toBe(first);
  expect(await programs.runs()).toHaveLength(1);
});

test('while a process works with the warm VMs, another one gets its own and waits for nobody', async () => {
  await using programs = await Programs.create();
  const vms = { web: WEB };
  await using holder = await upIn({ vms, reuse: true }, programs.outside);
  {
    await using second = await upIn({ vms, reuse: true }, programs.outside);
    expect(second.stateDirectory).not.toBe(holder.stateDirectory);
  }
  expect(await programs.runs()).toEqual([expect.stringMatching(/^warm-/)]);
});

test('kept VMs stay, where any command finds them', async () => {
  await using programs = await Programs.create();
  const vms = await upIn({ vms: { web: WEB }, keep: true }, programs.outside);
  const { stateDirectory } = vms;
  await vms.down();
  const outside = { ...programs.outside, variables: { ...programs.outside.variables, VMCTL_STATE: stateDirectory } };
  await downIn({ file: '(vms in code)', destroy: true }, outside);
  expect(await readdir(join(stateDirectory, 'vms'))).toEqual([]);
});

test('with lifetime forever, plan, up and down work with the VMs of the user', async () => {
  await using programs = await Programs.create();
  await programs.write('VMFile.kdl', 'vm "web" { image "disk.raw" }');
  const { outside } = programs;
  expect((await planIn({ lifetime: 'forever' }, outside)).vms).toMatchObject([{ name: 'web', action: 'create' }]);
  await (await upIn({ lifetime: 'forever' }, outside)).down();
  expect((await planIn({ lifetime: 'forever' }, outside)).vms).toMatchObject([{ name: 'web', action: 'none' }]);
  expect(await failure(downIn({ vms: ['wbe'] }, outside))).toMatchObject({ code: 'VM_NOT_FOUND' });
  await downIn({}, outside);
  expect((await planIn({ lifetime: 'forever' }, outside)).vms).toMatchObject([{ name: 'web', action: 'start' }]);
  await downIn({ destroy: true }, outside);
  expect(await readdir(programs.paths.vms)).toEqual([]);
});

test('plan tells of a run that all VMs are made, and makes nothing', async () => {
  await using programs = await Programs.create();
  const { vms } = await planIn({ vms: { web: WEB } }, programs.outside);
  expect(vms).toMatchObject([{ action: 'create', steps: [{ title: 'shell true', runs: true }] }]);
  expect(await readdir(programs.root)).toEqual(['project']);
});

test('another process attaches by plain JSON without secrets, and its end leaves the VMs alone', async () => {
  await using programs = await Programs.create();
  await using vms = await upIn({ vms: { web: WEB } }, programs.outside);
  const json = JSON.stringify(vms);
  expect(JSON.parse(json)).toMatchObject({ schemaVersion: 1, vms: { web: { ssh: null, forwards: [] } } });
  expect(json).not.toContain('PRIVATE KEY');
  const file = join(programs.root, 'connection.json');
  await writeFile(file, json);
  {
    await using attached = await attachIn<'web'>(file, programs.outside);
    expect((await attached.web.status()).state).toBe('running');
    expect('down' in attached).toBe(false);
  }
  expect((await vms.web.status()).state).toBe('running');
  const { stateDirectory } = vms;
  await vms.down();
  expect(await failure(attachIn(file, programs.outside))).toMatchObject({
    code: 'VM_NOT_FOUND',
    message: `the VMs in ${stateDirectory} are gone`,
  });
  await writeFile(file, '{}');
  expect((await failure(attachIn(file, programs.outside))).code).toBe('USAGE');
});

test('a mistake makes nothing', async () => {
  await using programs = await Programs.create();
  await programs.write('VMFile.kdl', 'vm "web" { image "none.raw"; memory "4X" }');
  expect(await failure(upIn({}, programs.outside))).toMatchObject({ code: 'VMFILE_INVALID', fields: { errors: 2 } });
  expect(await failure(upIn({ vms: { web: WEB }, timeout: 'soon' }, programs.outside))).toMatchObject({
    code: 'USAGE',
    message: 'timeout takes milliseconds, or text such as "10s" or "2m", of 24 days at most, not "soon"',
  });
  expect(await programs.runs()).toEqual([]);
});

test('an image that a run stands on is not removed, whatever its age', async () => {
  await using programs = await Programs.create();
  const image = await putImage(programs.paths.images, 'https://example.org/web.raw', { unusedDays: 90 });
  const vms = await upIn({ vms: { web: { image } } }, programs.outside);
  const prune = () => finish(programs.vmctl(['gc', '--images-older-than', '0s', '--json']));
  const left = async () => (await readdir(programs.paths.images)).filter((name) => name.endsWith('.raw'));
  await prune();
  expect(await left()).toHaveLength(1);
  await vms.down();
  await prune();
  expect(await left()).toEqual([]);
});
