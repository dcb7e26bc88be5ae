import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  findInArp,
  parseVnics,
  parseVolumes,
  parseZones,
  splitFields,
} from '../../../src/hypervisor/propolis/delimited.js';
import { HostRunner } from '../../../src/hypervisor/propolis/host-runner.js';
import { attachVnic, removeVnic } from '../../../src/hypervisor/propolis/vnic.js';
import {
  cloneDisk,
  findVolume,
  makeBase,
  releaseBase,
  removeVolume,
} from '../../../src/hypervisor/propolis/volumes.js';
import { quiet } from '../../support/fixtures.js';
import { FakeHost } from '../../support/propolis-host.js';

const fixtures: readonly { readonly argv: readonly string[]; readonly stdout: string }[] = JSON.parse(
  readFileSync(new URL('../../fixtures/propolis/commands.json', import.meta.url), 'utf8'),
);
const outputsOf = (start: string) =>
  fixtures.filter(({ argv, stdout }) => argv.join(' ').startsWith(start) && stdout !== '').map(({ stdout }) => stdout);

describe('what illumos prints', () => {
  test.each([
    ['a:b:c', ['a', 'b', 'c']],
    ['a\\:b:c\\\\d', ['a:b', 'c\\d']],
    ['::', ['', '', '']],
    ['', ['']],
    ['?:x', ['?', 'x']],
  ])('%j is read as its fields', (line, fields) => {
    expect(splitFields(line)).toEqual(fields);
  });

  test('zones are read with and without the fields that came later, and with colons in their paths', () => {
    const zones = outputsOf('zoneadm').flatMap(parseZones);
    expect(zones).toHaveLength(9);
    expect(zones[0]).toEqual({
      id: 0,
      name: 'global',
      state: 'running',
      path: '/',
      uuid: null,
      brand: 'ipkg',
      ipType: 'shared',
    });
    expect(zones.map(({ id }) => id)).toEqual([0, 42, 44, 0, 21, null, 12, null, null]);
    expect(zones.find(({ state }) => state === 'configured')).toMatchObject({
      uuid: null,
      brand: 'bhyve',
      ipType: 'excl',
    });
    expect(zones.at(-1)).toMatchObject({ path: '/zones/a:b', brand: 'bhyve' });
    expect(parseZones('0:global:running:/::ipkg:shared:0:new:newer\nhalf:a:zone\n')).toHaveLength(1);
  });

  test('cards are read with their whole MAC address', () => {
    expect(outputsOf('dladm show-vnic -p -o link,over').flatMap(parseVnics)).toEqual([
      { name: 'vnic0', over: 'e1000g0', mac: '02:08:20:ac:e9:16' },
    ]);
  });

  test('volumes are read, and file systems are none', () => {
    const volume = { name: 'rpool/vms/web', bytes: 21_474_836_480, origin: 'rpool/images/deb12@base' };
    expect(outputsOf('zfs list -H -p').flatMap(parseVolumes)).toEqual([volume]);
    expect(parseVolumes('rpool\t-\t-\nrpool/a b\t512\t-\n')).toEqual([{ name: 'rpool/a b', bytes: 512, origin: null }]);
  });

  test('a neighbour is found in what SmartOS has printed', () => {
    const [recorded = ''] = outputsOf('arp -an');
    expect(findInArp(recorded, '90:b8:d0:2a:0a:23')).toBe('37.153.96.85');
    expect(findInArp(recorded, '00:00:5e:00:01:01')).toBe('37.153.96.1');
  });

  test('a neighbour is found by its MAC address, however that is written', () => {
    const table = [
      'Net to Media Table: IPv4',
      'Device   IP Address               Mask      Flags      Phys Addr',
      '------ -------------------- --------------- -------- ---------------',
      'e1000g0 192.168.1.7          255.255.255.255 o        52:54:00:0a:0b:0c',
      'e1000g0 224.0.0.0            240.0.0.0       SM       01:00:5e:00:00:00',
      'e1000g0 192.168.1.9          255.255.255.255          ',
    ].join('\n');
    expect(findInArp(table, '52:54:00:0A:0B:0C')).toBe('192.168.1.7');
    expect(findInArp(table.replace('52:54:00:0a:0b:0c', '52:54:0:a:b:c'), '52:54:00:0a:0b:0c')).toBe('192.168.1.7');
    expect(findInArp(table, '52:54:00:00:00:00')).toBeNull();
  });
});

const IMAGE = { path: '/images/base.qcow2', format: 'qcow2', virtualBytes: 10 * 1024 ** 2 + 512 } as const;
const PLACE = { base: 'rpool/vmctl/images/abc', disk: 'rpool/vmctl/vms/web' };
const MIB = 1024 ** 2;

const workOn = (fake: FakeHost) => ({ host: new HostRunner(fake.run, true), signal: quiet.signal });

describe('a disk', () => {
  test('is a clone of its image, which is written once, and grows', async () => {
    const fake = new FakeHost();
    const work = workOn(fake);
    await makeBase(IMAGE, PLACE.base, work);
    await makeBase(IMAGE, PLACE.base, work);
    await cloneDisk(PLACE, null, work);
    await cloneDisk({ ...PLACE, disk: 'rpool/vmctl/vms/db' }, 20 * MIB, work);
    expect(fake.changes.filter((command) => command.startsWith('qemu-img'))).toEqual([
      'qemu-img convert -n -f qcow2 -O raw -- /images/base.qcow2 /dev/zvol/rdsk/rpool/vmctl/images/abc',
    ]);
    const origin = 'rpool/vmctl/images/abc@base';
    expect(await findVolume(PLACE.disk, work.host)).toEqual({ name: PLACE.disk, bytes: 11 * MIB, origin });
    expect(await findVolume('rpool/vmctl/vms/db', work.host)).toMatchObject({ bytes: 20 * MIB, origin });
  });

  test('keeps its image as long as another stands on it', async () => {
    const fake = new FakeHost();
    const work = workOn(fake);
    await makeBase(IMAGE, PLACE.base, work);
    await cloneDisk(PLACE, null, work);
    await releaseBase(PLACE.base, work.host);
    expect(await findVolume(PLACE.base, work.host)).not.toBeNull();
    await removeVolume(PLACE.disk, work.host);
    await releaseBase(PLACE.base, work.host);
    expect(fake.left()).toEqual([]);
    await releaseBase(PLACE.base, work.host);
  });

  test('stands on an image that was written completely', async () => {
    const fake = new FakeHost({ volumes: { [PLACE.base]: { bytes: 512, content: 'half' } } });
    await makeBase(IMAGE, PLACE.base, workOn(fake));
    expect(fake.state.volumes[PLACE.base]).toEqual({ bytes: 11 * MIB, content: '/images/base.qcow2' });
  });

  test('leaves nothing of what failed half-way, whichever step it was', async () => {
    const whole = new FakeHost();
    await makeBase(IMAGE, PLACE.base, workOn(whole));
    expect(whole.changes).toHaveLength(5);
    for (const step of whole.changes.keys()) {
      const fake = new FakeHost();
      fake.failAt = step;
      await expect(makeBase(IMAGE, PLACE.base, workOn(fake))).rejects.toMatchObject({ code: 'COMMAND_FAILED' });
      expect([whole.changes[step], fake.left()]).toEqual([whole.changes[step], []]);
    }
  });

  test('is not believed to be there because a command says nothing', async () => {
    const fake = new FakeHost();
    const work = workOn(fake);
    await makeBase(IMAGE, PLACE.base, work);
    const deaf = new HostRunner(async (program, words, options) => {
      if (words[0] === 'set') return { stdout: '', stderr: '' };
      return fake.run(program, words, options);
    }, true);
    await expect(cloneDisk(PLACE, 20 * MIB, { ...work, host: deaf })).rejects.toMatchObject({
      code: 'COMMAND_FAILED',
      message: expect.stringContaining(
        'was to make the volume rpool/vmctl/vms/web of 20971520 bytes, and it has 11534336',
      ),
    });
    expect(await findVolume(PLACE.disk, work.host)).toBeNull();
  });
});

describe('a VNIC', () => {
  const wanted = { name: 'vnic0', mac: '52:54:00:0a:0b:0c', over: null };

  test('is made over the first link with the MAC address of the VM, taken again, and removed', async () => {
    const fake = new FakeHost();
    const { host } = workOn(fake);
    await attachVnic(wanted, host);
    await attachVnic(wanted, host);
    expect(fake.changes).toEqual(['dladm create-vnic -t -l e1000g0 -m 52:54:00:0a:0b:0c vnic0']);
    await removeVnic(wanted, host);
    await removeVnic(wanted, host);
    expect(fake.left()).toEqual([]);
  });

  test('of somebody else is neither taken nor removed', async () => {
    const fake = new FakeHost({ vnics: { vnic0: { over: 'e1000g0', mac: '2:8:20:1:2:3' } } });
    const { host } = workOn(fake);
    await expect(attachVnic(wanted, host)).rejects.toMatchObject({
      code: 'HOST_UNSUPPORTED',
      message: "the VNIC vnic0 is there already and is not this VM's",
      hint: 'Take another name in network "vnic", or remove it: pfexec dladm delete-vnic vnic0',
    });
    await removeVnic(wanted, host);
    expect(fake.left()).toEqual(['vnic0']);
    expect(fake.changes).toEqual([]);
  });

  test('is made by pfexec where the user is not root, and a user who may not is told so', async () => {
    const fake = new FakeHost({ isRoot: false });
    await attachVnic({ ...wanted, over: 'stub0' }, new HostRunner(fake.run, false));
    expect(fake.state.vnics['vnic0']?.over).toBe('stub0');
    await expect(removeVnic(wanted, new HostRunner(fake.run, true))).rejects.toMatchObject({
      code: 'HOST_UNSUPPORTED',
      message: 'this user may not do what vmctl needs: dladm failed with exit code 1: dladm: permission denied',
      hint: expect.stringContaining('pfexec'),
    });
  });
});
