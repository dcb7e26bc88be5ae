/** Where a guest is reached that was given an address by its user's own network-config. */
import { describe, expect, test } from 'vitest';
import { staticAddress } from '../../../src/hypervisor/propolis/guest-address.js';
import { quiet, resolvedVm } from '../../support/fixtures.js';
import { openPropolisLab } from '../lab.js';

describe('the address in a network-config', () => {
  test.each([
    [
      'in a list on one line',
      'version: 2\nethernets:\n  eth0:\n    addresses: [10.0.0.5/24, 10.0.0.6/24]\n',
      '10.0.0.5',
    ],
    [
      'in a list of lines',
      'ethernets:\n  eth0:\n    addresses:\n      - "10.0.0.5/24"\n      - 10.0.0.6/24\n',
      '10.0.0.5',
    ],
    ['behind one of IPv6', 'ethernets:\n  eth0:\n    addresses:\n    - fd00::5/64\n    - 10.0.0.5/24\n', '10.0.0.5'],
    ['all in one line', '{version: 2, ethernets: {eth0: {addresses: [10.0.0.5/24], gateway4: 10.0.0.1}}}', '10.0.0.5'],
    ['as JSON', '{"ethernets": {"eth0": {"addresses": ["10.0.0.5/24"]}}}', '10.0.0.5'],
    [
      'behind name servers',
      'ethernets:\n  eth0:\n    nameservers:\n      addresses: [1.1.1.1, 8.8.8.8]\n    addresses: [10.0.0.5/24]\n',
      '10.0.0.5',
    ],
    [
      'with a remark',
      'ethernets:\n  eth0:\n    # addresses: [10.9.9.9/24]\n    addresses: [10.0.0.5/24] # this one\n',
      '10.0.0.5',
    ],
    [
      'in version 1',
      'version: 1\nconfig:\n  - type: physical\n    name: eth0\n    subnets:\n      - type: static\n        address: 10.0.0.5/24\n',
      '10.0.0.5',
    ],
    [
      'in version 1, with a netmask',
      'subnets:\n  - type: static\n    address: 10.0.0.5\n    netmask: 255.255.255.0\n',
      '10.0.0.5',
    ],
    ['in version 1, behind its netmask', "subnets:\n  - netmask: 255.255.255.0\n    address: '10.0.0.5'\n", '10.0.0.5'],
    ['that is none: it asks for one', 'ethernets:\n  eth0:\n    dhcp4: true\n', null],
    [
      'that is none: only name servers',
      'ethernets:\n  eth0:\n    dhcp4: true\n    nameservers: {addresses: [1.1.1.1]}\n',
      null,
    ],
    ['that is none: only a name server', 'config:\n  - type: nameserver\n    address: 1.1.1.1\n', null],
    [
      'that is none: only a route',
      'ethernets:\n  eth0:\n    dhcp4: true\n    routes:\n    - to: 10.1.0.0/16\n      via: 10.0.0.1\n',
      null,
    ],
    ['that is none: no IPv4', 'ethernets:\n  eth0:\n    addresses: [fd00::5/64]\n', null],
    ['that is none: there is no document', null, null],
  ])('is found %s', (_where, document, address) => {
    expect(staticAddress(document)).toBe(address);
  });
});

test('a guest with an address of its own is reached there, whatever this host has heard of', async () => {
  await using lab = await openPropolisLab();
  const vm = resolvedVm(lab.image, { network: { kind: 'vnic', vnic: 'vnic0' } });
  const places = { directory: lab.paths.vm('web'), staging: lab.paths.vmStaging('web') };
  const rawNetworkConfig = 'version: 2\nethernets:\n  eth0:\n    addresses: [10.0.0.5/24]\n';
  if (vm.seed === null) throw new Error('a VM without a seed');
  const handle = await lab.backend.prepare({ ...vm, seed: { ...vm.seed, rawNetworkConfig } }, places, quiet);
  lab.host.state.neighbours = { [handle.mac ?? '']: '192.168.1.7' };
  const running = await lab.backend.start({ state: 'stopped', handle }, quiet);
  expect(running.ssh).toEqual({ host: '10.0.0.5', port: 22 });
  await lab.backend.destroy(handle, quiet);
});
