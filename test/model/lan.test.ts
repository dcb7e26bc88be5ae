import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  LAN_SIZE,
  lanAddressAt,
  lanAddressProblem,
  lanIdentity,
  lanMac,
  lanPlace,
  lanSegment,
  lanVariables,
} from '../../src/model/lan.js';
import type { LanSpec } from '../../src/model/spec.js';
import { vmSpec } from '../support/fixtures.js';

const lan: LanSpec = {
  name: 'back',
  address: '10.77.0.12',
  members: [
    { vm: 'web-1', address: '10.77.0.11', names: ['web-1', 'www'] },
    { vm: 'db', address: '10.77.0.12', names: ['db'] },
    { vm: 'mq.0', address: '10.77.0.5', names: ['mq.0'] },
  ],
};
const db = vmSpec({ name: 'db', network: { kind: 'user', forwards: [], lan } });

describe('the addresses of a LAN', () => {
  test('are as many as it has room for, all of its subnet, and no two alike', () => {
    const addresses = Array.from({ length: LAN_SIZE }, (_, place) => lanAddressAt(place));
    expect(addresses[0]).toBe('10.77.0.11');
    expect(addresses.at(-1)).toBe('10.77.0.254');
    expect(new Set(addresses).size).toBe(LAN_SIZE);
    expect(addresses.every((address) => address !== null && lanAddressProblem(address) === null)).toBe(true);
    expect(lanAddressAt(LAN_SIZE)).toBeNull();
  });

  test.each(['10.77.0.1', '10.77.0.254'])('can be %s', (address) => {
    expect(lanAddressProblem(address)).toBeNull();
  });

  test.each(['10.77.0.0', '10.77.0.255', '10.77.1.1', '10.78.0.1', '11.77.0.1'])('cannot be %s', (address) => {
    expect(lanAddressProblem(address)).not.toBeNull();
  });
});

test('the MAC is that of one card, not of many, locally administered, and another one for every address', () => {
  expect(lanMac('10.77.0.11')).toBe('02:4c:0a:4d:00:0b');
  const host = fc.integer({ min: 1, max: 254 });
  fc.assert(
    fc.property(host, host, (a, b) => {
      const [mac, other] = [lanMac(`10.77.0.${a}`), lanMac(`10.77.0.${b}`)];
      expect(mac).toMatch(/^(?:[0-9a-f]{2}:){5}[0-9a-f]{2}$/);
      expect(Number.parseInt(mac.slice(0, 2), 16) & 0b11).toBe(0b10);
      expect(mac === other).toBe(a === b);
    }),
  );
});

describe('the segment', () => {
  const own = { project: '/p/VMFile.kdl', vms: '/state/vms', name: 'back' };

  test('is an administratively scoped group and a port that nobody is given by accident', () => {
    const path = fc.string({ unit: 'binary' });
    fc.assert(
      fc.property(path, path, path, (project, vms, name) => {
        const { group, port } = lanSegment({ project, vms, name });
        expect(group).toMatch(/^239(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}$/);
        expect(port).toBeGreaterThan(1024);
        expect(port).toBeLessThan(32_768);
      }),
    );
  });

  test('stays the same, and is another one for another LAN, project, state directory or run', () => {
    expect(lanSegment(own)).toEqual(lanSegment({ ...own }));
    const others = [
      own,
      { ...own, name: 'front' },
      { ...own, project: '/q/VMFile.kdl' },
      { ...own, vms: '/state/runs/0a1b2c3d/vms' },
      { ...own, vms: '/state/runs/4e5f6a7b/vms' },
    ].map((other) => JSON.stringify(lanSegment(other)));
    expect(new Set(others).size).toBe(others.length);
  });
});

describe('a VM on a LAN', () => {
  test('is told its card, its address and the names of all', () => {
    expect(lanIdentity(db)).toEqual({
      mac: '02:4c:0a:4d:00:0c',
      address: '10.77.0.12',
      prefixLength: 24,
      hosts: ['10.77.0.11 web-1 www', '10.77.0.12 db', '10.77.0.5 mq.0'],
    });
    expect(lanPlace(lan)).toEqual({ name: 'back', address: '10.77.0.12', mac: '02:4c:0a:4d:00:0c' });
  });

  test('has the addresses of the others in its variables', () => {
    expect(lanVariables(db)).toEqual({
      VMCTL_LAN_ADDRESS: '10.77.0.12',
      VMCTL_PEER_WEB_1: '10.77.0.11',
      VMCTL_PEER_MQ_0: '10.77.0.5',
    });
  });

  test('is what a VM without one is not', () => {
    expect([lanIdentity(vmSpec()), lanPlace(null), lanVariables(vmSpec())]).toEqual([null, null, {}]);
  });
});
