import { describe, expect, test } from 'vitest';
import {
  type MachineOptions,
  headerFor,
  hasConnection,
  parseUserNetwork,
  qemuArguments,
} from '../../src/hypervisor/qemu/command-line.js';
import type { StateHeader } from '../../src/hypervisor/qemu/state-header.js';
import type { NetworkSpec } from '../../src/model/spec.js';
import type { VmHandle } from '../../src/model/vm.js';
import { vmHandle, vmSpec } from '../support/fixtures.js';

const TCG = {
  accelerator: 'tcg',
  hasSeed: true,
  uefiCode: null,
  segment: null,
  memory: { kind: 'own' },
  awaits: null,
  extraArguments: [],
} as const;

/** What comes last, so that serial ports that the user adds keep their numbers. */
const GUEST_PORT = [
  ...['-chardev', 'socket,id=port,path=port.sock,server=on,wait=off'],
  ...['-device', 'isa-serial,chardev=port,index=3'],
];

/** The words of the network alone. */
function network(spec: NetworkSpec): readonly string[] {
  const words = qemuArguments(vmHandle({ spec: vmSpec({ network: spec }) }), TCG);
  return words.filter((word) => /^user,|^virtio-net|hostfwd/.test(word));
}

describe('the command line', () => {
  test('of a VM with a seed and the user network is this', () => {
    const spec = vmSpec({ name: 'web', vcpus: 2, memoryMib: 1024 });
    expect(qemuArguments(vmHandle({ spec }), TCG)).toEqual([
      ...['-name', 'guest=web', '-uuid', '6f6dfa32-5e3c-4c2b-8a0c-0d7b8a3a4f11'],
      ...['-nodefaults', '-no-user-config', '-machine', 'q35', '-accel', 'tcg,thread=multi'],
      ...['-cpu', 'max,la57=off'],
      ...['-smp', '2', '-m', '1024M', '-display', 'none', '-device', 'VGA'],
      ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
      ...['-chardev', 'socket,id=qmp,path=qmp.sock,server=on,wait=off'],
      ...['-mon', 'chardev=qmp,mode=control', '-pidfile', 'pidfile'],
      '-chardev',
      'socket,id=console,path=console.sock,server=on,wait=off,logfile=console.log,logappend=on',
      ...['-serial', 'chardev:console', '-device', 'virtio-rng-pci', '-device', 'vmgenid,guid=auto'],
      '-blockdev',
      'driver=qcow2,node-name=root,discard=unmap,file.driver=file,file.filename=overlay.qcow2',
      ...['-device', 'virtio-blk-pci,drive=root,bootindex=0', '-device', 'virtio-scsi-pci,id=scsi'],
      ...['-blockdev', 'driver=raw,node-name=seed,read-only=on,file.driver=file,file.filename=seed.iso'],
      ...['-device', 'scsi-cd,bus=scsi.0,drive=seed'],
      ...['-netdev', 'user,id=net0,hostfwd=tcp:127.0.0.1:0-:22'],
      ...['-device', 'virtio-net-pci,netdev=net0,mac=52:54:00:12:34:56'],
      ...GUEST_PORT,
    ]);
  });

  test('has no seed and no SCSI where there is none', () => {
    const words = qemuArguments(vmHandle(), { ...TCG, hasSeed: false }).join(' ');
    expect(words).not.toMatch(/seed|scsi/);
    expect(words).toContain('overlay.qcow2');
  });

  test('of a VM with UEFI has the host’s code to read and variables of its own, and commas in a path are no options', () => {
    const words = qemuArguments(vmHandle(), { ...TCG, uefiCode: '/usr/a,readonly=off/code.fd' });
    const code = 'file.driver=file,file.filename=/usr/a,,readonly=off/code.fd';
    const variables = 'file.driver=file,file.filename=firmware-variables.fd';
    expect(words.slice(6, 12)).toEqual([
      ...['-blockdev', `driver=raw,node-name=uefi-code,read-only=on,${code}`],
      ...['-blockdev', `driver=raw,node-name=uefi-variables,${variables}`],
      ...['-machine', 'q35,pflash0=uefi-code,pflash1=uefi-variables'],
    ]);
  });

  test.each(['kvm', 'hvf'] as const)('takes the host’s own processor under %s', (accelerator) => {
    const words = qemuArguments(vmHandle(), { ...TCG, accelerator });
    const at = words.indexOf('-accel');
    expect(words.slice(at, at + 4)).toEqual(['-accel', accelerator, '-cpu', 'host']);
  });

  test('bounds what emulation keeps translated for a guest of a group that goes on from a memory file, and for no other', () => {
    const clone = vmHandle({ spec: vmSpec({ group: { name: 'worker', index: 2 } }) });
    const shared = { kind: 'file', path: '/frozen/memory', shared: false } as const;
    const accelerator = (handle: VmHandle, changes: Partial<MachineOptions>) => {
      const words = qemuArguments(handle, { ...TCG, ...changes });
      return words[words.indexOf('-accel') + 1];
    };
    expect(accelerator(clone, { memory: shared })).toBe('tcg,thread=multi,tb-size=44');
    expect(accelerator(vmHandle(), { memory: shared })).toBe('tcg,thread=multi');
    expect(accelerator(clone, {})).toBe('tcg,thread=multi');
    expect(accelerator(clone, { memory: { ...shared, shared: true } })).toBe('tcg,thread=multi');
    expect(accelerator(clone, { memory: shared, accelerator: 'kvm' })).toBe('kvm');
  });

  test('ends with the user’s own arguments, as they are, and the port that is for vmctl alone', () => {
    const words = qemuArguments(vmHandle(), { ...TCG, extraArguments: ['-device', 'a,b', ''] });
    expect(words.slice(-3 - GUEST_PORT.length)).toEqual(['-device', 'a,b', '', ...GUEST_PORT]);
  });

  test('has no path and no text of the user’s, only bare names of files', () => {
    const hostile = `/evil, dir="x" 'y'/$(z)\n`;
    const spec = vmSpec({
      project: hostile,
      image: { kind: 'file', path: hostile },
      cloudInit: { hostname: hostile, userData: { kind: 'raw', path: hostile }, networkConfig: hostile },
      ssh: { declared: true, user: hostile, privateKey: hostile, timeoutSeconds: null },
      dependsOn: [hostile],
      provision: [{ kind: 'file', source: hostile, destination: hostile, run: 'always', timeoutSeconds: null }],
    });
    const image = { path: hostile, format: 'qcow2', virtualBytes: 1 } as const;
    const words = qemuArguments(vmHandle({ spec, directory: hostile, image }), TCG);
    expect(words).toEqual(qemuArguments(vmHandle(), TCG));
    expect(words.join('\n')).not.toMatch(/evil|\/|\$|"|'/);
  });
});

describe('the network', () => {
  test('is left out where there is none', () => {
    expect(network({ kind: 'none' })).toEqual([]);
  });

  test('forwards what is declared, on 127.0.0.1 only, and SSH besides', () => {
    const forwards = [
      { host: 8080, guest: 80 },
      { host: 0, guest: 443 },
    ];
    expect(network({ kind: 'user', forwards, lan: null })).toEqual([
      'user,id=net0,hostfwd=tcp:127.0.0.1:0-:22,hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=tcp:127.0.0.1:0-:443',
      'virtio-net-pci,netdev=net0,mac=52:54:00:12:34:56',
    ]);
  });

  test('forwards SSH once where it is declared', () => {
    const forwards = [
      { host: 8080, guest: 80 },
      { host: 2222, guest: 22 },
    ];
    expect(network({ kind: 'user', forwards, lan: null })[0]).toBe(
      'user,id=net0,hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=tcp:127.0.0.1:2222-:22',
    );
  });
});

describe('the addresses that the network gives', () => {
  const clone = vmHandle();
  const ofAnother = { mac: '52:54:00:99:99:99', readdressed: false };
  const own = { mac: clone.mac, readdressed: false };

  /** What QEMU is told of its network by a machine that goes on from this. */
  function going(awaits: StateHeader): string | undefined {
    return qemuArguments(clone, { ...TCG, awaits }).find((word) => word.startsWith('user,'));
  }

  test('begin one earlier for a machine that goes on from the state of another one, so that it has that one’s', () => {
    expect(going(ofAnother)).toBe('user,id=net0,dhcpstart=10.0.2.14,hostfwd=tcp:127.0.0.1:0-10.0.2.15:22');
    expect(going(own)).toBe('user,id=net0,hostfwd=tcp:127.0.0.1:0-:22');
  });

  test('do so for every machine that goes on from what was saved of such a one', () => {
    const saved = headerFor(clone, qemuArguments(clone, { ...TCG, awaits: ofAnother }));
    expect(saved).toEqual({ mac: clone.mac, readdressed: true });
    expect(going(saved)).toBe(going(ofAnother));
    expect(headerFor(clone, qemuArguments(clone, { ...TCG, awaits: saved }))).toEqual(saved);
  });

  test('do not where it has booted since', () => {
    expect(headerFor(clone, qemuArguments(clone, TCG))).toEqual(own);
  });
});

describe('the card on a LAN', () => {
  const lan = { name: 'back', address: '10.77.0.12', members: [{ vm: 'web', address: '10.77.0.12', names: ['web'] }] };
  const onLan = vmHandle({ spec: vmSpec({ network: { kind: 'user', forwards: [], lan } }) });
  const segment = { group: '239.1.2.3', port: 12_345 };

  test('comes behind the one that reaches the host, whose place in the guest stays what it is, and hears loopback alone', () => {
    const alone = qemuArguments(vmHandle(), TCG);
    const both = qemuArguments(onLan, { ...TCG, segment });
    const before = alone.length - GUEST_PORT.length;
    expect(both.slice(0, before)).toEqual(alone.slice(0, before));
    expect(both.slice(before)).toEqual([
      ...['-netdev', 'socket,id=lan,mcast=239.1.2.3:12345,localaddr=127.0.0.1'],
      ...['-device', 'virtio-net-pci,id=lan0,netdev=lan,mac=02:4c:0a:4d:00:0c'],
      ...GUEST_PORT,
    ]);
  });

  test('is not there in a VM that is on none', () => {
    expect(qemuArguments(vmHandle(), { ...TCG, segment })).toEqual(qemuArguments(vmHandle(), TCG));
  });
});

describe('the forwards that QEMU tells', () => {
  /** QEMU 7.2.22, `info usernet`, with a connection through the first forward. */
  const TEXT = [
    'Hub -1 (net0):',
    '  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ',
    '  TCP[ESTABLISHED]   13       127.0.0.1 41517       10.0.2.15    22     0     0',
    '  TCP[HOST_FORWARD]  10       127.0.0.1 41517       10.0.2.15    22     0     0',
    '  TCP[HOST_FORWARD]   9       127.0.0.1 45775       10.0.2.15  8080     0     0',
    '  UDP[HOST_FORWARD]   8       127.0.0.1 44214       10.0.2.15    53     0     0',
    '  ICMP[40]           14       10.0.2.15 40            8.8.8.8 *         0     0',
    '',
  ].join('\r\n');

  test('are the TCP ports of this host and of the guest', () => {
    expect(parseUserNetwork(TEXT)).toEqual([
      { host: 41517, guest: 22 },
      { host: 45775, guest: 8080 },
    ]);
  });

  test('are told to be in use when the guest has answered, and not while it is only asked', () => {
    expect(hasConnection(TEXT, 41517)).toBe(true);
    expect(hasConnection(TEXT, 45775)).toBe(false);
    expect(hasConnection(TEXT.replace('ESTABLISHED]  ', 'SYN_SENT]     '), 41517)).toBe(false);
  });

  test('are none where there is no user network', () => {
    expect(parseUserNetwork('')).toEqual([]);
    expect(parseUserNetwork('No slirp stacks\r\n')).toEqual([]);
  });
});
