import { join } from 'node:path';
import { writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { VmctlError } from '../../src/errors.js';
import { chooseAddress, findSsh, parseLeases, parseNeighbours } from '../../src/hypervisor/qemu/guest-address.js';
import type { CommandRunner } from '../../src/util/exec.js';
import { temporaryDirectory, vmHandle, vmSpec } from '../support/fixtures.js';

/** iproute2 6.1, `ip -statistics -json neigh show dev br0`, and a neighbour that did not answer. */
const NEIGHBOURS =
  '[{"dst":"10.9.0.6","lladdr":"52:54:00:11:22:34","refcnt":1,"used":0,"confirmed":0,"updated":0,"probes":0,"state":["REACHABLE"]},' +
  '{"dst":"10.9.0.5","lladdr":"52:54:00:11:22:33","used":0,"confirmed":60,"updated":0,"probes":0,"state":["STALE"]},' +
  '{"dst":"10.9.0.9","used":3,"confirmed":90,"updated":2,"probes":3,"state":["FAILED"]},' +
  '{"dst":"fe80::1","lladdr":"52:54:00:11:22:34","used":0,"confirmed":0,"updated":0,"probes":0,"state":["PERMANENT"]}]\n';

/** dnsmasq 2.90: a lease with a name and one without, one that never ends, and IPv6. */
const LEASES = `1795481936 52:54:00:e1:68:50 10.99.0.25 * 01:52:54:00:e1:68:50
1795481940 52:54:00:12:34:56 10.99.0.84 web 01:52:54:00:12:34:56
0 52:54:00:00:00:07 10.99.0.7 old *
duid 00:01:00:01:2d:5f:11:aa:52:54:00:12:34:56
1795481950 1193046 fd00::84 web 00:01:00:01:2d:5f:11:aa:52:54:00:12:34:56
`;

/** What libvirt keeps for a network, `virbr0.status`. */
const STATUS = `[
  {
    "ip-address": "192.168.122.36",
    "mac-address": "52:54:00:12:34:56",
    "hostname": "web",
    "client-id": "01:52:54:00:12:34:56",
    "expiry-time": 1795481960
  }
]
`;

describe('the neighbours', () => {
  test('are those that have a MAC, and are fresh or old', () => {
    expect(parseNeighbours(NEIGHBOURS)).toEqual([
      { address: '10.9.0.6', mac: '52:54:00:11:22:34', fresh: true, age: 0 },
      { address: '10.9.0.5', mac: '52:54:00:11:22:33', fresh: false, age: 60 },
      { address: 'fe80::1', mac: '52:54:00:11:22:34', fresh: true, age: 0 },
    ]);
  });

  test.each(['', '[]', '[ ]\n', 'no JSON', '{"dst":"10.0.0.1"}', '[null]'])('are none in %j', (text) => {
    expect(parseNeighbours(text)).toEqual([]);
  });
});

describe('the leases', () => {
  test('of dnsmasq are those of IPv4, also without an end', () => {
    expect(parseLeases(LEASES)).toEqual([
      { address: '10.99.0.25', mac: '52:54:00:e1:68:50', expires: 1_795_481_936 },
      { address: '10.99.0.84', mac: '52:54:00:12:34:56', expires: 1_795_481_940 },
      { address: '10.99.0.7', mac: '52:54:00:00:00:07', expires: Number.POSITIVE_INFINITY },
    ]);
  });

  test('of libvirt are in JSON', () => {
    expect(parseLeases(STATUS)).toEqual([
      { address: '192.168.122.36', mac: '52:54:00:12:34:56', expires: 1_795_481_960 },
    ]);
  });

  test.each(['', '\n', '[', '[]', 'garbage', '1795481936 52:54:00:e1:68:50 not-an-address * *'])(
    'are none in %j',
    (text) => {
      expect(parseLeases(text)).toEqual([]);
    },
  );
});

describe('the address of a guest', () => {
  const mac = '52:54:00:12:34:56';
  const fresh = { address: '10.0.0.1', mac, fresh: true, age: 1 };
  const old = { address: '10.0.0.2', mac, fresh: false, age: 50 };
  const older = { address: '10.0.0.3', mac, fresh: false, age: 500 };
  const leased = { address: '10.0.0.4', mac, expires: 100 };
  const later = { address: '10.0.0.5', mac, expires: 200 };

  test('is the one that the kernel believes in, then the lease that ends last, then the youngest of the old ones', () => {
    expect(chooseAddress(mac, { neighbours: [older, old, fresh], leases: [leased] })).toBe('10.0.0.1');
    expect(chooseAddress(mac, { neighbours: [older, old], leases: [leased, later] })).toBe('10.0.0.5');
    expect(chooseAddress(mac, { neighbours: [older, old], leases: [] })).toBe('10.0.0.2');
  });

  test('is nobody else’s', () => {
    const mine = chooseAddress('52:54:00:ff:ff:ff', { neighbours: [fresh, old], leases: [leased] });
    expect(mine).toBeNull();
    expect(chooseAddress(mac.toUpperCase(), { neighbours: [fresh], leases: [] })).toBe('10.0.0.1');
  });

  test('is an IPv4 address where there is one, and never one that needs an interface beside it', () => {
    const six = { address: 'fd00::1', mac, fresh: true, age: 0 };
    const local = { address: 'fe80::1', mac, fresh: true, age: 0 };
    expect(chooseAddress(mac, { neighbours: [six, old], leases: [] })).toBe('10.0.0.2');
    expect(chooseAddress(mac, { neighbours: [local, six], leases: [] })).toBe('fd00::1');
    expect(chooseAddress(mac, { neighbours: [local], leases: [] })).toBeNull();
  });
});

describe('SSH of a guest', () => {
  const handle = vmHandle({ spec: vmSpec({ network: { kind: 'tap', bridge: 'br9' } }) });
  const asked: string[][] = [];
  const answering =
    (stdout: string): CommandRunner =>
    async (program, words) => {
      asked.push([program, ...words]);
      return { stdout, stderr: '' };
    };

  test('on a bridge is at the address that the neighbours or the leases of that bridge tell', async () => {
    await using directory = await temporaryDirectory();
    await writeFile(join(directory.path, 'br9.leases'), LEASES);
    const sources = { forwards: [], leaseFiles: ['/nonexistent/leases', join(directory.path, '{bridge}.leases')] };
    const none = answering('[]');
    expect(await findSsh(handle, { ...sources, run: none })).toEqual({ host: '10.99.0.84', port: 22 });
    expect(asked.at(-1)).toEqual(['ip', '-statistics', '-json', 'neigh', 'show', 'dev', 'br9']);
    const known = answering(`[{"dst":"10.9.9.9","lladdr":"${handle.mac}","confirmed":0,"state":["REACHABLE"]}]`);
    expect(await findSsh(handle, { ...sources, run: known })).toEqual({ host: '10.9.9.9', port: 22 });
  });

  test('is not known while nobody knows the guest, and where the host cannot be asked', async () => {
    const sources = { forwards: [], leaseFiles: ['/nonexistent/leases', '/'] };
    expect(await findSsh(handle, { ...sources, run: answering('[]') })).toBeNull();
    const broken: CommandRunner = async () => {
      throw new VmctlError('HOST_UNSUPPORTED', 'ip is not installed');
    };
    expect(await findSsh(handle, { ...sources, run: broken })).toBeNull();
  });

  test('on the user network is at its forward, and no program is asked', async () => {
    const user = vmHandle();
    const never: CommandRunner = () => Promise.reject(new Error('asked'));
    const forwards = [{ host: 40_123, guest: 22 }];
    expect(await findSsh(user, { forwards, leaseFiles: [], run: never })).toEqual({ host: '127.0.0.1', port: 40_123 });
    expect(await findSsh(user, { forwards: [], leaseFiles: [], run: never })).toBeNull();
  });
});
