import { expect, test } from 'vitest';
import { UP_STEPS } from '../../src/model/event.js';
import { guestImage } from '../support/guests.js';
import { MachineRoom } from '../support/machine-room.js';

async function declareOne(room: MachineRoom): Promise<void> {
  const image = JSON.stringify(await guestImage('pocket'));
  const step = 'provision "shell" { inline "echo provisioned > proof" }';
  await room.write('VMFile.kdl', `vm "web" { image ${image}; memory 256; cloud-init; ssh; ${step} }`);
}

test.each(UP_STEPS)(
  'after kill -9 of vmctl in %s, up ends with a provisioned machine and down leaves nothing',
  async (step) => {
    await using room = await MachineRoom.open();
    await declareOne(room);
    const killed = await room.upUntil(step, (child) => child.kill('SIGKILL'));
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

test.each(UP_STEPS)('after kill -9 of vmctl in %s, down --destroy alone leaves nothing', async (step) => {
  await using room = await MachineRoom.open();
  await declareOne(room);
  await room.upUntil(step, (child) => child.kill('SIGKILL'));
  expect((await room.vmctl('down', '--destroy')).exitCode).toBe(0);
  expect(await room.leftovers()).toEqual([]);
  expect(await room.states()).toEqual({});
});

test.each(UP_STEPS)(
  'Ctrl-C in %s says at once what it does, exits with 130, and leaves what list says',
  async (step) => {
    await using room = await MachineRoom.open();
    await declareOne(room);
    const interrupted = await room.upUntil(step, (child) => child.kill('SIGINT'));
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
