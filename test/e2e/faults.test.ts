/** Power cuts, pulled cables and resets on real guests. */
import { expect, test } from 'vitest';
import { upIn } from '../../src/api/up.js';
import { guestImage } from '../support/guests.js';
import { MachineRoom } from '../support/machine-room.js';
import { Programs } from '../support/programs.js';

/** The guest's kernel keeps what is written to itself, however long the test takes. */
const KEEP_IN_MEMORY =
  'echo 360000 | sudo tee /proc/sys/vm/dirty_expire_centisecs /proc/sys/vm/dirty_writeback_centisecs';
const BOOT_ID = 'cat /proc/sys/kernel/random/boot_id';

test('a power cut keeps what was flushed and loses what was not, and up starts the VM again', async () => {
  await using room = await MachineRoom.open();
  const image = JSON.stringify(await guestImage('pocket'));
  await room.write('VMFile.kdl', `vm "web" { image ${image}; memory 256; cloud-init; ssh }`);
  await room.vmctl('up');
  const flushed = 'dd if=/dev/urandom of=big bs=1M count=8 2>/dev/null; sha256sum big > sum; sync';
  const written = 'echo written > written; cat written';
  expect((await room.vmctl('exec', 'web', '--', `${KEEP_IN_MEMORY}; ${flushed}; ${written}`)).stdout).toMatch(
    /written$/m,
  );

  expect((await room.vmctl('crash', 'web')).exitCode).toBe(0);
  expect(await room.machines()).toEqual({});
  expect(await room.states()).toEqual({ web: 'stopped' });
  const told = await room.vmctl('status', 'web');
  expect(told.stdout).toMatch(/^on purpose +power cut at \d{4}-/m);
  expect(told.stdout).not.toMatch(/^problem/m);

  expect((await room.vmctl('up')).stderr.trimEnd().split('\n').at(-1)).toBe('1 up');
  const read = await room.vmctl('exec', 'web', '--', 'sha256sum -c sum; cat written');
  expect(read.stdout).toBe('big: OK\n');
});

test('a cable that is out cuts vmctl off with words that say so, and a guest that is plugged in again goes on', async () => {
  await using programs = await Programs.create();
  const image = await guestImage('pocket');
  await using vms = await upIn({ vms: { web: { image, memory: 256 } } }, programs.real);
  const { web } = vms;
  expect((await web.exec('cat /sys/class/net/e*/carrier')).stdout).toMatch(/^1$/m);
  const saying = 'until grep -q 0 /sys/class/net/e*/carrier; do sleep 0.1; done; echo its cable is out > /dev/ttyS0';
  await web.exec(`(${saying}) > /dev/null 2>&1 &`, { user: 'root' });

  const { result } = web.spawn('sleep 600');
  await web.disconnect('outside');
  await expect(result).rejects.toMatchObject({ code: 'SSH_TRANSPORT' });
  const refusal = { code: 'VM_STATE', message: 'VM "web" cannot be reached: its outside cable is out' };
  const hint = 'Plug it in again with: vmctl connect web --nic outside';
  await expect(web.exec('true')).rejects.toMatchObject({ ...refusal, hint });
  await expect(web.copyTo('/etc/hostname', '/tmp/')).rejects.toMatchObject(refusal);
  expect(await web.status()).toMatchObject({ state: 'running', unplugged: ['outside'] });

  await web.waitFor({ log: /its cable is out$/ });

  await web.connect('outside');
  await web.waitFor({ shell: 'grep -q 1 /sys/class/net/e*/carrier' });
  expect(await web.status()).toMatchObject({ unplugged: [] });
});

test('a hard reboot is another boot of the same machine, also of a guest that hangs', async () => {
  await using programs = await Programs.create();
  const image = await guestImage('pocket');
  await using vms = await upIn({ vms: { web: { image, memory: 256 } } }, programs.real);
  const { web } = vms;
  const before = { boot: (await web.exec(BOOT_ID)).stdout, ssh: web.ssh.port, pid: (await web.status()).pid };
  await web.exec('sync');
  // Its kernel stops for good, and answers nobody.
  const unanswered = web.exec('echo c > /proc/sysrq-trigger', { user: 'root' }).catch((error: unknown) => error);
  await web.waitFor({ log: 'sysrq: Trigger a crash' });
  const again = await web.reboot({ hard: true });
  expect(await unanswered).toMatchObject({ code: 'SSH_TRANSPORT' });
  expect((await again.exec(BOOT_ID)).stdout).not.toBe(before.boot);
  expect({ ssh: again.ssh.port, pid: (await again.status()).pid }).toEqual({ ssh: before.ssh, pid: before.pid });
});

test('the cable of a LAN is pulled without cutting vmctl off, and the machines find each other again', async () => {
  await using programs = await Programs.create();
  const vm = { image: await guestImage('pocket'), memory: 256, network: { kind: 'user', lan: 'back' } } as const;
  await using vms = await upIn({ vms: { one: vm, two: vm } }, programs.real);
  const { one, two } = vms;
  const ping = async () => (await one.exec('sudo ping -c 1 -W 5 two', { check: false })).exitCode;
  expect(await ping()).toBe(0);
  await two.disconnect();
  expect((await two.status()).unplugged).toEqual(['lan']);
  expect(await ping()).toBe(1);
  expect((await two.exec('hostname')).stdout).toBe('two\n');
  await two.connect();
  await one.waitFor({ shell: 'sudo ping -c 1 -W 5 two' });
});
