import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { VM_FILES } from '../../src/paths.js';
import { waitFor } from '../../src/util/wait.js';
import { temporaryDirectory } from '../support/fixtures.js';
import { guestImage } from '../support/guests.js';
import { MachineRoom } from '../support/machine-room.js';
import { openNetwork } from '../support/network.js';

const network = openNetwork();
afterAll(() => network?.[Symbol.asyncDispose]());

test.skipIf(network === null)(
  'machines on a bridge get addresses from its DHCP server, and their TAP devices come and go with them',
  async () => {
    if (network === null) return;
    const { ip, runner } = network;
    await using files = await temporaryDirectory();
    const leaseFile = join(files.path, 'leases');
    await using room = await MachineRoom.open({ runner, variables: { VMCTL_NETWORK_LEASES: leaseFile } });
    const common = `image ${JSON.stringify(await guestImage('pocket'))}; memory 256; cloud-init; ssh { timeout 90 }`;
    await room.write(
      'VMFile.kdl',
      `vm "web" { network "tap"; ${common}; provision "shell" { inline "hostname > name" } }
       vm "off" { network "tap" bridge="br7"; ${common} }`,
    );
    const taps = () => ip('-brief', 'link', 'show', 'type', 'tun').trim().split('\n').filter(Boolean);
    const status = async () => JSON.parse((await room.vmctl('status', 'web', '--json')).stdout);

    const without = await room.vmctl('up', 'web');
    expect(without.exitCode).toBe(4);
    expect(without.stderr).toContain('this host has no bridge "br0"');
    expect(without.stderr).toContain('sudo ip link add br0 type bridge && sudo ip link set br0 up');
    ip('link', 'add', 'br0', 'type', 'bridge');
    ip('addr', 'add', '10.99.0.1/24', 'dev', 'br0');
    expect((await room.vmctl('up', 'web')).stderr).toContain('the bridge "br0" is down');
    expect(await room.leftovers()).toEqual([]);
    expect(taps()).toEqual([]);

    ip('link', 'set', 'br0', 'up');
    await network.serveAddresses({ bridge: 'br0', leaseFile });
    const up = await room.vmctl('up');
    expect(up.stderr).toContain('this host has no bridge "br7"');
    expect(up.stderr).toContain('1 up');
    expect(taps()).toHaveLength(1);
    const { ssh, mac } = await status();
    expect(ssh).toMatchObject({ host: expect.stringMatching(/^10\.99\.0\.\d+$/), port: 22 });
    expect((await room.vmctl('list')).stdout).toContain(`${ssh.host}:22`);
    expect((await room.vmctl('exec', 'web', '--', 'cat name; ip -4 addr show eth0')).stdout).toMatch(
      new RegExp(`^web\n[^]*inet ${ssh.host}/24`),
    );
    expect((await room.vmctl('ssh', 'web', '--', 'cat', 'name')).stdout).toBe('web\n');
    // What the kernel has forgotten stands in the leases.
    ip('neigh', 'flush', 'dev', 'br0');
    expect(await readFile(leaseFile, 'utf8')).toContain(`${mac} ${ssh.host} `);
    expect((await status()).ssh.host).toBe(ssh.host);

    // What a killed QEMU leaves is used again.
    expect((await room.vmctl('exec', 'web', '--', 'sync')).exitCode).toBe(0);
    await room.signal('web', 'SIGKILL');
    await waitFor(async () => ((await room.machines())['web'] === undefined ? true : null), { timeoutMs: 10_000 });
    expect(taps()).toHaveLength(1);
    expect((await room.vmctl('up', 'web')).exitCode).toBe(0);
    expect((await room.vmctl('exec', 'web', '--', 'cat', 'name')).stdout).toBe('web\n');
    expect((await room.vmctl('down', 'web')).stderr).toContain('powered off by itself');
    expect(taps()).toEqual([]);

    // A VM whose record is damaged takes its device along as well.
    expect((await room.vmctl('start', 'web')).exitCode).toBe(0);
    await room.write('../data/vmctl/vms/web/' + VM_FILES.handle, '{');
    expect((await room.vmctl('destroy', 'web')).exitCode).toBe(0);
    expect(taps()).toEqual([]);
    expect(await room.leftovers()).toEqual([]);

    // What it knows of the network does not last, so its disk alone is frozen.
    await room.write(
      'VMFile.kdl',
      `vm "web" { network "tap"; ${common}; warm #true; provision "shell" { inline "hostname > name" } }`,
    );
    const cold = (await room.vmctl('up')).stderr;
    expect(cold).toContain('frozen with its disk in');
    expect(cold.match(/what it knows of its network "tap" does not last/g)).toHaveLength(1);
    expect((await room.vmctl('down', '--destroy')).exitCode).toBe(0);
    expect((await room.vmctl('up')).stderr).toContain(', from what was frozen');
    expect((await room.vmctl('exec', 'web', '--', 'cat', 'name')).stdout).toBe('web\n');
    expect((await room.vmctl('down', '--destroy')).exitCode).toBe(0);
    expect(taps()).toEqual([]);
  },
);
