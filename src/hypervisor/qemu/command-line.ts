/**
 * The command line of a VM's QEMU, as a pure function (QEMU manual, "Invocation").
 *
 * QEMU runs in the VM's directory, so that every file of the VM is a bare name: no path but the host's own firmware
 * reaches an option, and no socket path can be too long. The base image is named inside the overlay only.
 */
import { VM_FILES } from '../../paths.js';
import { type LanSegment, lanIdentity } from '../../model/lan.js';
import type { Forward } from '../../model/spec.js';
import type { Accelerator, VmHandle } from '../../model/vm.js';
import type { StateHeader } from './state-header.js';
import { tapOf } from './tap.js';

export interface MachineOptions {
  readonly accelerator: Exclude<Accelerator, 'none'>;
  readonly hasSeed: boolean;
  /** Absolute path of the UEFI code, whose variables are in the VM's directory; null starts a BIOS. */
  readonly uefiCode: string | null;
  /** Where the frames of the VM's LAN go; null for a VM that is on none. */
  readonly segment: LanSegment | null;
  readonly memory: MemoryPlace;
  /** What the state says of itself that the machine waits for, paused; null for one that boots. */
  readonly awaits: StateHeader | null;
  /** From the user's configuration, appended as they are. */
  readonly extraArguments: readonly string[];
}

/** Where a machine's memory is: QEMU's own, or a file, which the guest writes into (shared) or only reads from. */
export type MemoryPlace =
  | { readonly kind: 'own' }
  | { readonly kind: 'file'; readonly path: string; readonly shared: boolean };

export const SSH_PORT = 22;

/** What QEMU calls the memory of this machine by itself. States that were saved with and without a file then fit each other. */
const MEMORY_ID = 'pc.ram';

/** QEMU may not gain privileges, start programs, or change its scheduling ("-sandbox"). */
const SANDBOX = 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny';

/** The machine type; QEMU's version decides what that is. */
export const MACHINE = 'q35';

export function qemuArguments(handle: VmHandle, options: MachineOptions): readonly string[] {
  const { spec } = handle;
  return [
    ...['-name', `guest=${handle.name}`, '-uuid', handle.uuid],
    ...['-nodefaults', '-no-user-config', ...machine(options), ...accelerator(handle, options)],
    ...['-smp', String(spec.vcpus), '-m', `${spec.memoryMib}M`],
    ...memory(options.memory, spec.memoryMib),
    ...(options.awaits !== null ? ['-incoming', 'defer', '-S'] : []),
    ...['-display', 'none', '-device', 'VGA', '-sandbox', SANDBOX],
    ...['-chardev', `socket,id=qmp,path=${VM_FILES.qmpSocket},server=on,wait=off`],
    ...['-mon', 'chardev=qmp,mode=control', '-pidfile', VM_FILES.pidfile],
    ...console(),
    ...['-device', 'virtio-rng-pci', '-device', 'vmgenid,guid=auto'],
    ...rootDisk(),
    ...(options.hasSeed ? seed() : []),
    ...network(handle, options),
    ...lan(handle, options.segment),
    ...options.extraArguments,
    ...guestPort(),
  ];
}

function machine({ uefiCode, memory: place }: MachineOptions): readonly string[] {
  const kind = place.kind === 'own' ? MACHINE : `${MACHINE},memory-backend=${MEMORY_ID}`;
  if (uefiCode === null) return ['-machine', kind];
  const code = `file.driver=file,file.filename=${escaped(uefiCode)}`;
  const variables = `file.driver=file,file.filename=${VM_FILES.firmwareVariables}`;
  return [
    ...['-blockdev', `driver=raw,node-name=uefi-code,read-only=on,${code}`],
    ...['-blockdev', `driver=raw,node-name=uefi-variables,${variables}`],
    ...['-machine', `${kind},pflash0=uefi-code,pflash1=uefi-variables`],
  ];
}

function memory(place: MemoryPlace, mebibytes: number): readonly string[] {
  if (place.kind === 'own') return [];
  const file = `mem-path=${escaped(place.path)},share=${place.shared ? 'on' : 'off'}`;
  return ['-object', `memory-backend-file,id=${MEMORY_ID},size=${mebibytes}M,${file}`];
}

/** As a value inside of an option ("-object" and others: a comma is doubled). */
function escaped(path: string): string {
  return path.replaceAll(',', ',,');
}

function accelerator({ spec }: VmHandle, { accelerator: kind, memory: place }: MachineOptions): readonly string[] {
  const isBounded = spec.group !== null && place.kind === 'file' && !place.shared;
  const emulation = `tcg,thread=multi${isBounded ? `,tb-size=${CLONE_CODE_MIB}` : ''}`;
  return ['-accel', kind === 'tcg' ? emulation : kind, '-cpu', cpuModel(kind)];
}

/**
 * How much translated code emulation keeps for a guest of a group that goes on from a saved memory file, which it
 * shares with the others (MiB, "-accel tcg,tb-size="). By default QEMU keeps up to 1 GiB, of which each machine has its
 * own: soon more than all else that it has for itself. Most of that is of processes that have ended: with QEMU 7.2 every
 * run of a program whose addresses are random adds to it, as its monitor tells ("info jit").
 *
 * With this much, four clones take less than 2.5 times the memory of one (`npm run bench -- warm`). On two processors
 * their SSH commands take an eighth longer, restarts of services a quarter.
 */
const CLONE_CODE_MIB = 44;

/**
 * Emulation offers all that it can, but for five-level paging ("la57"): no guest has the 128 PiB of addresses that it is
 * for, and to translate each address through one more table makes a boot take a fifth longer.
 */
export function cpuModel(kind: MachineOptions['accelerator']): string {
  return kind === 'tcg' ? 'max,la57=off' : 'host';
}

/** The serial console: a socket for whoever attaches, and everything it ever printed in a file. */
function console(): readonly string[] {
  const chardev = `socket,id=console,path=${VM_FILES.consoleSocket},server=on,wait=off`;
  return ['-chardev', `${chardev},logfile=${VM_FILES.consoleLog},logappend=on`, '-serial', 'chardev:console'];
}

/**
 * The serial port over which vmctl speaks with a program in the guest. The last of a PC's four, and behind the user's
 * own words: QEMU counts serial ports as they come, and those of the user keep their numbers.
 */
function guestPort(): readonly string[] {
  const chardev = `socket,id=port,path=${VM_FILES.portSocket},server=on,wait=off`;
  return ['-chardev', chardev, '-device', 'isa-serial,chardev=port,index=3'];
}

export const GUEST_PORT_DEVICE = '/dev/ttyS3';

function rootDisk(): readonly string[] {
  const file = `file.driver=file,file.filename=${VM_FILES.overlay}`;
  return [
    ...['-blockdev', `driver=qcow2,node-name=root,discard=unmap,${file}`],
    ...['-device', 'virtio-blk-pci,drive=root,bootindex=0'],
  ];
}

/** On SCSI, because distributions' cloud kernels have virtio-scsi but no AHCI, and so never see an IDE CD-ROM. */
function seed(): readonly string[] {
  return [
    ...['-device', 'virtio-scsi-pci,id=scsi'],
    ...['-blockdev', `driver=raw,node-name=seed,read-only=on,file.driver=file,file.filename=${VM_FILES.seed}`],
    ...['-device', 'scsi-cd,bus=scsi.0,drive=seed'],
  ];
}

/** What QEMU's network gives to the first who asks for an address, and where its forwards lead. */
const GUEST_ADDRESS = '10.0.2.15';
const ADDRESS_BEFORE = '10.0.2.14';

const USER_NETWORK = 'user,id=net0';
const BEGINS_EARLIER = `${USER_NETWORK},dhcpstart=${ADDRESS_BEFORE}`;

/**
 * QEMU remembers in its state that the first of its addresses is that of the saved MAC address, and would give the second
 * one to the new one. So the addresses begin one earlier, and the second one is the guest's as before. That stays so in
 * every state that is saved of such a machine, whose MAC address is the new one by then.
 */
function network({ spec, mac }: VmHandle, { awaits }: MachineOptions): readonly string[] {
  if (mac === null) return [];
  const card = ['-device', `virtio-net-pci,netdev=net0,mac=${mac}`];
  const tap = tapOf(spec);
  if (tap !== null) return ['-netdev', `tap,id=net0,ifname=${tap.name},script=no,downscript=no`, ...card];
  if (spec.network.kind !== 'user') return [];
  const readdressed = awaits !== null && (awaits.readdressed || awaits.mac !== mac);
  const [begin, guest] = readdressed ? [BEGINS_EARLIER, GUEST_ADDRESS] : [USER_NETWORK, ''];
  const forwards = withSsh(spec.network.forwards).map(
    (forward) => `,hostfwd=tcp:127.0.0.1:${forward.host}-${guest}:${forward.guest}`,
  );
  return ['-netdev', `${begin}${forwards.join('')}`, ...card];
}

/** What a state is to say of itself that is saved of this VM, whose QEMU has this command line. */
export function headerFor({ mac }: Pick<VmHandle, 'mac'>, words: readonly string[]): StateHeader {
  return { mac, readdressed: words.some((word) => word.startsWith(BEGINS_EARLIER)) };
}

/** The second card: every QEMU that has joined the group on loopback hears each frame ("-netdev socket,mcast="). */
function lan({ spec }: VmHandle, segment: LanSegment | null): readonly string[] {
  const identity = lanIdentity(spec);
  if (identity === null || segment === null) return [];
  const { group, port } = segment;
  return [
    ...['-netdev', `socket,id=lan,mcast=${group}:${port},localaddr=127.0.0.1`],
    ...['-device', `virtio-net-pci,id=lan0,netdev=lan,mac=${identity.mac}`],
  ];
}

/** The guest's SSH port is always forwarded; QEMU lets the kernel choose the host's port, so nobody can be faster. */
function withSsh(forwards: readonly Forward[]): readonly Forward[] {
  return forwards.some(({ guest }) => guest === SSH_PORT) ? forwards : [{ host: 0, guest: SSH_PORT }, ...forwards];
}

/**
 * The forwards that are in force, from the text of the monitor's `info usernet`:
 * `  TCP[HOST_FORWARD]  14       127.0.0.1 40123       10.0.2.15    22     0     0`.
 */
export function parseUserNetwork(text: string): readonly Forward[] {
  const forwards: Forward[] = [];
  for (const line of text.split('\n')) {
    const match = /^\s*TCP\[HOST_FORWARD\]\s+\S+\s+\S+\s+(\d+)\s+\S+\s+(\d+)\s/.exec(line);
    if (match !== null) forwards.push({ host: Number(match[1]), guest: Number(match[2]) });
  }
  return forwards;
}

/**
 * Whether the guest has answered a connection through this forward, from the same text. While it has not, which for a
 * guest that boots is a long time, such a connection is in another state: `TCP[SYN_SENT]`.
 */
export function hasConnection(text: string, hostPort: number): boolean {
  return text
    .split('\n')
    .some((line) => Number(/^\s*TCP\[ESTABLISHED\]\s+\S+\s+\S+\s+(\d+)\s/.exec(line)?.[1]) === hostPort);
}
