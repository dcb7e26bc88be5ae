import { describe, expect, test } from 'vitest';
import { parseVmFile } from '../../src/vmfile/parse.js';
import { resolveProject } from '../../src/vmfile/resolve.js';
import { OPTIONS, diagnose, sourceOf } from './report.js';

function vm(name: string, network: string): string {
  return `vm "${name}" { image "disk.qcow2"; network ${network}; cloud-init; ssh }\n`;
}

/** Of each VM, where it is on its LAN. */
function places(text: string): Readonly<Record<string, string | null>> {
  const { project, diagnostics } = parseVmFile(sourceOf(text));
  expect(diagnostics).toEqual([]);
  const { specs } = resolveProject(project, OPTIONS);
  const place = ({ network }: (typeof specs)[number]) =>
    network.kind === 'user' && network.lan !== null ? `${network.lan.name} ${network.lan.address}` : null;
  return Object.fromEntries(specs.map((spec) => [spec.name, place(spec)]));
}

const back = '"user" { lan "back" }';
const three = vm('a', back) + vm('b', back) + vm('c', back);

describe('the addresses of VMs', () => {
  test('follow from their places among those of their LAN, whoever else is in the file', () => {
    const text = vm('x', '"user"') + vm('a', back) + vm('y', '"user" { lan "front" }') + vm('b', back);
    expect(places(text)).toEqual({ x: null, a: 'back 10.77.0.11', y: 'front 10.77.0.11', b: 'back 10.77.0.12' });
  });

  test('stay when others come behind them, or say their own', () => {
    const before = places(three);
    expect(before).toEqual({ a: 'back 10.77.0.11', b: 'back 10.77.0.12', c: 'back 10.77.0.13' });
    expect(places(three + vm('d', back))).toMatchObject(before);
    const own = '"user" { lan "back" address="10.77.0.9" }';
    expect(places(vm('a', back) + vm('b', own) + vm('c', back) + vm('d', own.replace('9', '99')))).toEqual({
      ...before,
      b: 'back 10.77.0.9',
      d: 'back 10.77.0.99',
    });
  });

  test('are told to all on the LAN in the same order, with the host names where these are others', () => {
    const text = `${three}vm "d" { image "disk.qcow2"; network ${back}; cloud-init { hostname "Delta" }; ssh }\n`;
    const { specs } = resolveProject(parseVmFile(sourceOf(text)).project, OPTIONS);
    for (const { network } of specs) {
      expect(network).toMatchObject({
        lan: {
          members: [
            { vm: 'a', address: '10.77.0.11', names: ['a'] },
            { vm: 'b', address: '10.77.0.12', names: ['b'] },
            { vm: 'c', address: '10.77.0.13', names: ['c'] },
            { vm: 'd', address: '10.77.0.14', names: ['d', 'Delta'] },
          ],
        },
      });
    }
  });

  test('are given to each VM of a group, at the group’s place, and so are the names', () => {
    const group = `vm "w" count=2 { image "disk.qcow2"; network ${back}; cloud-init { hostname "node.lan" }; ssh }\n`;
    const text = vm('a', back) + group + vm('b', back);
    const expected = { a: 'back 10.77.0.11', 'w-1': 'back 10.77.0.12', 'w-2': 'back 10.77.0.13', b: 'back 10.77.0.14' };
    expect(places(text)).toEqual(expected);
    const { specs } = resolveProject(parseVmFile(sourceOf(text)).project, OPTIONS);
    const names = specs.map(({ network }) =>
      network.kind === 'user' ? network.lan?.members.flatMap((member) => member.names) : null,
    );
    expect(names).toEqual(Array.from({ length: 4 }, () => ['a', 'w-1', 'node-1.lan', 'w-2', 'node-2.lan', 'b']));
  });

  test('run out behind the 244th VM, which is said of every one too many', async () => {
    const many = Array.from({ length: 246 }, (_, i) => vm(`n${i}`, back)).join('');
    const found = await diagnose(sourceOf(many));
    expect(found.map(({ message }) => message)).toEqual(
      ['n244', 'n245'].map((name) => `LAN "back" has no address left for "${name}": it has room for 244 VMs`),
    );
  });
});

test('two VMs of one name on a LAN are told once', async () => {
  const found = await diagnose(sourceOf(vm('a', back) + vm('a', back)));
  expect(found.map(({ message }) => message)).toEqual(['two VMs are called "a"']);
});

test('a network-config that speaks of the card is fine, by its MAC or by its address', async () => {
  const { files } = resolveProject(
    parseVmFile(
      sourceOf(`vm "a" { image "disk.qcow2"; network ${back}; cloud-init { network-config "network.yaml" }; ssh }`),
    ).project,
    OPTIONS,
  );
  const { checkFiles } = await import('../../src/vmfile/check-files.js');
  const found = async (start: string) => {
    const looker = { kind: async () => 'file' as const, list: async () => [], start: async () => start };
    return (await checkFiles(files, looker)).map(({ severity }) => severity);
  };
  expect(await found('match: {macaddress: "02:4C:0A:4D:00:0B"}')).toEqual([]);
  expect(await found('addresses: [10.77.0.11/24]')).toEqual([]);
  expect(await found('dhcp4: true')).toEqual(['warning']);
});
