/**
 * The documents of a NoCloud seed, as pure functions of what the VM is to be
 * (cloud-init documentation, "NoCloud": `meta-data`, `user-data`, `network-config`, `vendor-data`).
 *
 * The guest is told its SSH host key and is not asked for it, so the first connection is verified already; with
 * `ssh_keys` given, cloud-init makes no others, which is by far its slowest step under emulation.
 */
import type { LanIdentity } from '../model/lan.js';
import type { SeedContent } from '../model/vm.js';
import { block, quoted } from './yaml.js';

/** The volume label by which cloud-init finds the seed. */
export const SEED_VOLUME = 'cidata';

export interface SeedIdentity {
  /** A new one makes cloud-init start from the beginning. */
  readonly instanceId: string;
  /** Of the NIC that reaches the host; null where the VM has none. */
  readonly mac: string | null;
  /** The second card, for a VM on a LAN. */
  readonly lan?: LanIdentity | null;
}

export interface SeedFile {
  readonly name: string;
  readonly content: Uint8Array;
}

/** The files of the seed. The user's own documents go in byte for byte. */
export function seedFiles(content: SeedContent, identity: SeedIdentity): readonly SeedFile[] {
  const files = [
    file('meta-data', metaData(content, identity)),
    file('user-data', content.rawUserData ?? userData(content, identity)),
    file('network-config', content.rawNetworkConfig ?? networkConfig(identity)),
  ];
  // Beside the user's own user-data our part travels as vendor-data, which gives way wherever both say something.
  return content.rawUserData === null ? files : [...files, file('vendor-data', vendorData(content, identity))];
}

function metaData(content: SeedContent, identity: SeedIdentity): string {
  return document([
    `instance-id: ${quoted(identity.instanceId)}`,
    `local-hostname: ${quoted(content.hostname)}`,
    // Everything is done before the network would come up (cloud-init, "NoCloud", `dsmode`), `bootcmd` above all.
    ...(identity.mac === null ? ['dsmode: "local"'] : []),
  ]);
}

function userData(content: SeedContent, { mac }: SeedIdentity): string {
  const ours = [...hostname(content), ...user(content), 'ssh_pwauth: false', ...hostKey(content)];
  return document(['#cloud-config', ...ours, ...waitForNoNetwork(mac)]);
}

function vendorData(content: SeedContent, { mac }: SeedIdentity): string {
  return document(['#cloud-config', ...hostname(content), ...hostKey(content), ...waitForNoNetwork(mac)]);
}

/**
 * A guest without a NIC has no network to wait for, but its distribution waits all the same, for two minutes with
 * systemd-networkd, before anything that wants a network. These jobs are queued, and not begun yet, when `bootcmd` runs
 * in the local stage; stopping takes them out of the queue.
 */
function waitForNoNetwork(mac: string | null): readonly string[] {
  if (mac !== null) return [];
  const units = ['systemd-networkd', 'NetworkManager', 'ifupdown'].map((name) => `${name}-wait-online.service`);
  return ['bootcmd:', `  - ${quoted(`systemctl stop --no-block ${units.join(' ')} 2>/dev/null || true`)}`];
}

function hostname(content: SeedContent): readonly string[] {
  return [`hostname: ${quoted(content.hostname)}`, 'preserve_hostname: false'];
}

/**
 * The one user. A list without `default` leaves out the image's default user. A user of this name who is in the image
 * already keeps shell and groups; the keys, the sudo rule and the locked password apply to him as well (cloud-init,
 * `Distro.create_user`). Root needs no sudo rule, but `disable_root: false`, or logging in only prints a message
 * (cloud-init, `cc_ssh`).
 */
function user(content: SeedContent): readonly string[] {
  const root = content.user === 'root';
  const rights = [`    shell: ${quoted(content.shell ?? '/bin/bash')}`, '    sudo: "ALL=(ALL) NOPASSWD:ALL"'];
  const keys = content.authorizedKeys.map((key) => `      - ${quoted(key)}`);
  return [
    'users:',
    `  - name: ${quoted(content.user)}`,
    '    lock_passwd: true',
    ...(root ? [] : rights),
    ...(keys.length === 0 ? ['    ssh_authorized_keys: []'] : ['    ssh_authorized_keys:', ...keys]),
    `disable_root: ${!root}`,
  ];
}

/**
 * The pinned host key. With `ssh_keys` cloud-init generates none, whatever `ssh_genkeytypes` says (`cc_ssh.handle`);
 * an empty `ssh_genkeytypes` would violate its schema, which newer versions report as a degraded boot.
 */
function hostKey(content: SeedContent): readonly string[] {
  return [
    'ssh_deletekeys: true',
    'ssh_keys:',
    `  ed25519_private: ${block(content.hostKey.privateKey, '  ')}`,
    `  ed25519_public: ${quoted(content.hostKey.publicKey)}`,
  ];
}

/**
 * DHCP on the NIC of that MAC. It is not `optional`: a machine whose only NIC is optional makes
 * `systemd-networkd-wait-online` wait for its whole 120 s. With no NIC cloud-init is told to write no configuration
 * at all (its documentation, "Disabling network configuration").
 *
 * The card on a LAN is optional, and takes no router advertisements: no router is there, so nothing may wait for one, and
 * everybody on this host can send to the segment.
 */
function networkConfig({ mac, lan = null }: SeedIdentity): string {
  if (mac === null) return document(['config: disabled']);
  return document([
    'version: 2',
    'ethernets:',
    '  nic0:',
    '    match:',
    `      macaddress: ${quoted(mac.toLowerCase())}`,
    '    dhcp4: true',
    ...(lan === null ? [] : lanCard(lan)),
  ]);
}

function lanCard({ mac, address, prefixLength }: LanIdentity): readonly string[] {
  return [
    '  lan0:',
    '    match:',
    `      macaddress: ${quoted(mac)}`,
    '    addresses:',
    `      - ${quoted(`${address}/${prefixLength}`)}`,
    '    dhcp4: false',
    '    accept-ra: false',
    '    optional: true',
  ];
}

function document(lines: readonly string[]): string {
  return `${lines.join('\n')}\n`;
}

function file(name: string, text: string): SeedFile {
  return { name, content: new TextEncoder().encode(text) };
}
