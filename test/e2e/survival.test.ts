import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { UP_STEPS, type VmEvent } from '../../src/model/event.js';
import { serveFile } from '../support/file-server.js';
import { guestImage } from '../support/guests.js';
import { MachineRoom } from '../support/machine-room.js';

async function declareOne(room: MachineRoom): Promise<void> {
  const image = JSON.stringify(await guestImage('pocket'));
  const step = 'provision "shell" { inline "echo half done; sleep 1; echo provisioned > proof" }';
  await room.write('VMFile.kdl', `vm "web" { image ${image}; memory 256; cloud-init; ssh; ${step} }`);
}

/** The begin of each step, and the moments at which most is half done. */
const MOMENTS: readonly (readonly [string, (event: VmEvent) => boolean])[] = [
  ...UP_STEPS.map((step) => [step, (event: VmEvent) => event.step === step && event.type === 'started'] as const),
  ['start, when QEMU runs', (event) => event.step === 'start' && event.type === 'done'],
  ['provision, while a step runs', (event) => event.type === 'log' && event.line === 'half done'],
];

test.each(MOMENTS)(
  'after kill -9 of vmctl in %s, up ends with a provisioned machine and down leaves nothing',
  async (_name, isMoment) => {
    await using room = await MachineRoom.open();
    await declareOne(room);
    const killed = await room.upUntil(isMoment, (child) => child.kill('SIGKILL'));
    expect(killed.exitCode).toBe(-9);

    const up = await room.vmctl('up');
    expect(up.stderr.trimEnd().split('\n').at(-1)).toBe('1 up');
    expect(await room.states()).toEqual({ web: 'running' });
    expect(Object.keys(await room.machines())).toEqual(['web']);
    expect((await room.vmctl('exec', 'web', '--', 'cat', 'proof')).stdout).toBe('provisioned\n');

    expect((await room.vmctl('down', '--destroy')).exitCode).toBe(0);
    expect(await room.leftovers()).toEqual([]);
    expect(await room.states()).toEqual({});
  },
);

test.each(MOMENTS)('after kill -9 of vmctl in %s, down --destroy alone leaves nothing', async (_name, isMoment) => {
  await using room = await MachineRoom.open();
  await declareOne(room);
  await room.upUntil(isMoment, (child) => child.kill('SIGKILL'));
  expect((await room.vmctl('down', '--destroy')).exitCode).toBe(0);
  expect(await room.leftovers()).toEqual([]);
  expect(await room.states()).toEqual({});
});

test.each(MOMENTS)(
  'Ctrl-C in %s says at once what it does, exits with 130, and leaves what list says',
  async (_name, isMoment) => {
    await using room = await MachineRoom.open();
    await declareOne(room);
    const interrupted = await room.upUntil(isMoment, (child) => child.kill('SIGINT'));
    expect(interrupted.exitCode).toBe(130);
    expect(interrupted.stderr).toContain('Interrupted: stopping what was begun (again to leave at once)');

    const running = Object.entries(await room.states()).filter(([, state]) => state !== 'stopped');
    expect(Object.keys(await room.machines())).toEqual(running.map(([name]) => name));
    expect(running).toEqual([]);
    expect((await room.vmctl('down', '--destroy')).exitCode).toBe(0);
    expect(await room.leftovers()).toEqual([]);
  },
);

test('two vmctl up at once on one VMFile make one machine each, and both succeed', async () => {
  await using room = await MachineRoom.open();
  const image = JSON.stringify(await guestImage('pocket'));
  const vm = (name: string) => `vm "${name}" { image ${image}; memory 256; cloud-init; ssh }\n`;
  await room.write('VMFile.kdl', vm('web') + vm('db'));
  const results = await Promise.all([room.vmctl('up'), room.vmctl('up')]);
  expect(results.map(({ exitCode }) => exitCode)).toEqual([0, 0]);
  expect(await room.states()).toEqual({ db: 'running', web: 'running' });
  expect(Object.keys(await room.machines())).toHaveLength(2);
  const waited = results.map(({ stderr }) => stderr).join('\n');
  expect(waited).toMatch(/waiting for "vmctl up" \(pid \d+\) to finish with it/);
});

test('two machines of two projects never get the same port', async () => {
  await using first = await MachineRoom.open();
  await using second = await MachineRoom.open();
  for (const room of [first, second]) await declareOne(room);
  const ups = await Promise.all([first, second].map((room) => room.vmctl('up', '--no-provision')));
  expect(ups.map(({ exitCode }) => exitCode)).toEqual([0, 0]);
  const ports = await Promise.all(
    [first, second].map(async (room) => JSON.parse((await room.vmctl('list', '--json')).stdout).vms[0].sshPort),
  );
  expect(ports[0]).not.toBe(ports[1]);
  expect(ports.every((port) => Number.isInteger(port))).toBe(true);
});

test('kill -9 while an image is downloaded leaves nothing that looks like an image', async () => {
  await using server = await serveFile(await guestImage('pocket'), { overMs: 3000 });
  await using room = await MachineRoom.open({ variables: { VMCTL_BACKEND: 'noop' } });
  await room.write('VMFile.kdl', `vm "web" { image-url "${server.url}" }`);
  const killed = await room.upUntil(
    (event) => event.type === 'progress',
    (child) => child.kill('SIGKILL'),
  );
  expect(killed.exitCode).toBe(-9);
  const images = async () => (await readdir(room.paths.images)).filter((name) => !name.startsWith('.'));
  expect(await images()).toEqual([]);
  expect((await room.vmctl('up')).exitCode).toBe(0);
  expect((await images()).filter((name) => name.endsWith('.qcow2'))).toHaveLength(1);
  expect((await readdir(room.paths.images)).filter((name) => name.endsWith('.part'))).toEqual([]);
});

test('SIGTERM stops what was begun and exits with 143; a second signal ends vmctl at once', async () => {
  await using room = await MachineRoom.open();
  await declareOne(room);
  const running = (event: VmEvent) => event.type === 'log' && event.line === 'half done';
  const ended = await room.upUntil(running, (child) => child.kill('SIGTERM'));
  expect(ended.exitCode).toBe(143);
  expect(await room.machines()).toEqual({});

  const hurried = await room.upUntil(running, (child) => {
    child.stderr?.on('data', (text: Buffer) => {
      if (text.toString().includes('Interrupted')) child.kill('SIGINT');
    });
    child.kill('SIGINT');
  });
  expect(hurried.exitCode).toBe(130);
  // It did not wait for the guest, and list tells what is left.
  expect(Object.keys(await room.machines())).toEqual(
    Object.entries(await room.states()).flatMap(([name, state]) => (state === 'running' ? [name] : [])),
  );
});

test('a reader that goes away does not stop vmctl in the middle', async () => {
  const image = JSON.stringify(await guestImage('pocket'));
  await using room = await MachineRoom.open({ variables: { VMCTL_BACKEND: 'noop' } });
  await room.write('VMFile.kdl', ['a', 'b', 'c'].map((name) => `vm "${name}" { image ${image} }`).join('\n'));
  const child = room.start(['up', '--json']);
  child.stdout?.once('data', () => {
    child.stdout?.destroy();
    child.stderr?.destroy();
  });
  await once(child, 'exit');
  expect(child.exitCode).toBe(0);
  expect(await room.states()).toEqual({ a: 'running', b: 'running', c: 'running' });
});
