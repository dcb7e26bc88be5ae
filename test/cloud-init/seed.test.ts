import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { type SeedIdentity, seedFiles } from '../../src/cloud-init/seed.js';
import type { SeedContent } from '../../src/model/vm.js';
import { runCommand } from '../../src/util/exec.js';

const hostKey = {
  privateKey: '-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaA==\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n',
  publicKey: 'ssh-ed25519 AAAAC3Nz host key',
};
const web: SeedContent = {
  hostname: 'web',
  user: 'vm',
  authorizedKeys: ['ssh-ed25519 AAAA me@home'],
  hostKey,
  rawUserData: null,
  rawNetworkConfig: null,
};
const identity = { instanceId: 'web-1', mac: '52:54:00:AB:cd:ef' };

function documents(content: SeedContent, who: SeedIdentity = identity): Map<string, string> {
  const files = seedFiles(content, who);
  return new Map(files.map((file) => [file.name, new TextDecoder().decode(file.content)]));
}

describe('the seed', () => {
  test('has the three documents that cloud-init looks for', () => {
    expect([...documents(web).keys()]).toEqual(['meta-data', 'user-data', 'network-config']);
  });

  test('tells user, keys, host key and host name in user-data', () => {
    expect(documents(web).get('user-data')).toBe(`#cloud-config
hostname: "web"
preserve_hostname: false
users:
  - name: "vm"
    lock_passwd: true
    shell: "/bin/bash"
    sudo: "ALL=(ALL) NOPASSWD:ALL"
    ssh_authorized_keys:
      - "ssh-ed25519 AAAA me@home"
disable_root: true
ssh_pwauth: false
ssh_deletekeys: true
ssh_keys:
  ed25519_private: |
    -----BEGIN OPENSSH PRIVATE KEY-----
    b3BlbnNzaA==
    AAAA
    -----END OPENSSH PRIVATE KEY-----
  ed25519_public: "ssh-ed25519 AAAAC3Nz host key"
`);
  });

  test('gives the user another shell where the image has no bash', () => {
    const text = documents({ ...web, shell: '/bin/ash' }).get('user-data') ?? '';
    expect(parse(text)).toMatchObject({ users: [{ name: 'vm', shell: '/bin/ash' }] });
  });

  test('tells who the instance is in meta-data', () => {
    expect(parse(documents(web).get('meta-data') ?? '')).toEqual({ 'instance-id': 'web-1', 'local-hostname': 'web' });
  });

  test('lets root log in where root is the user', () => {
    expect(parse(documents({ ...web, user: 'root' }).get('user-data') ?? '')).toMatchObject({
      users: [{ name: 'root', ssh_authorized_keys: web.authorizedKeys }],
      disable_root: false,
    });
  });

  test('can hold several keys, and none', () => {
    const several = documents({ ...web, authorizedKeys: ['a', 'b'] });
    expect(parse(several.get('user-data') ?? '')).toMatchObject({ users: [{ ssh_authorized_keys: ['a', 'b'] }] });
    const none = documents({ ...web, authorizedKeys: [] });
    expect(parse(none.get('user-data') ?? '')).toMatchObject({ users: [{ ssh_authorized_keys: [] }] });
  });
});

describe('the network configuration', () => {
  test('asks for an address on the NIC of this MAC, and does not call the only NIC optional', () => {
    expect(parse(documents(web).get('network-config') ?? '')).toEqual({
      version: 2,
      ethernets: { nic0: { match: { macaddress: '52:54:00:ab:cd:ef' }, dhcp4: true } },
    });
  });

  test('gives the card on a LAN its address, with no router, and lets nothing wait for it', () => {
    const lan = { mac: '02:4c:0a:4d:00:0b', address: '10.77.0.11', prefixLength: 24, hosts: [] };
    const text = documents(web, { ...identity, lan }).get('network-config') ?? '';
    expect(parse(text)).toEqual({
      version: 2,
      ethernets: {
        nic0: { match: { macaddress: '52:54:00:ab:cd:ef' }, dhcp4: true },
        lan0: {
          match: { macaddress: '02:4c:0a:4d:00:0b' },
          addresses: ['10.77.0.11/24'],
          dhcp4: false,
          'accept-ra': false,
          optional: true,
        },
      },
    });
    expect(text.startsWith(documents(web).get('network-config') ?? 'none')).toBe(true);
  });

  test('of a VM without a NIC makes cloud-init write none', () => {
    const { mac: _, ...rest } = identity;
    expect(parse(documents(web, { ...rest, mac: null }).get('network-config') ?? '')).toEqual({ config: 'disabled' });
  });

  test('of a VM without a NIC is for the local stage, where what would wait for a network is taken out of the queue', () => {
    const bare = { instanceId: 'web-1', mac: null };
    expect(parse(documents(web, bare).get('meta-data') ?? '')).toMatchObject({ dsmode: 'local' });
    const command = expect.stringMatching(/^systemctl stop --no-block systemd-networkd-wait-online\.service /);
    expect(parse(documents(web, bare).get('user-data') ?? '')).toMatchObject({ bootcmd: [command] });
    const raw = documents({ ...web, rawUserData: '#cloud-config\n' }, bare);
    expect(parse(raw.get('vendor-data') ?? '')).toMatchObject({ bootcmd: [command] });
  });

  test('of the user goes in as it is', () => {
    const rawNetworkConfig = 'version: 1\r\nconfig: []\n\n';
    expect(documents({ ...web, rawNetworkConfig }).get('network-config')).toBe(rawNetworkConfig);
  });
});

describe('with user-data of the user', () => {
  const raw = '#!/bin/sh\r\necho "ü"\n\n';
  const seed = documents({ ...web, rawUserData: raw });

  test('it goes in byte for byte', () => {
    expect(seed.get('user-data')).toBe(raw);
  });

  test('host name and host key travel as vendor-data, and no user', () => {
    const vendor = seed.get('vendor-data') ?? '';
    expect(vendor.startsWith('#cloud-config\n')).toBe(true);
    expect(parse(vendor)).toEqual({
      hostname: 'web',
      preserve_hostname: false,
      ssh_deletekeys: true,
      ssh_keys: { ed25519_private: hostKey.privateKey, ed25519_public: hostKey.publicKey },
    });
  });
});

test('every value arrives as it was given, whatever it is', () => {
  const value = fc.string({ unit: 'binary' });
  const contents = fc.record({
    hostname: value,
    user: value,
    key: value,
    privateKey: value,
    publicKey: value,
    id: value,
  });
  fc.assert(
    fc.property(contents, ({ hostname, user, key, privateKey, publicKey, id }) => {
      const seed = documents(
        { ...web, hostname, user, authorizedKeys: [key], hostKey: { privateKey, publicKey } },
        { instanceId: id, mac: null },
      );
      expect(parse(seed.get('meta-data') ?? '')).toMatchObject({ 'instance-id': id, 'local-hostname': hostname });
      expect(parse(seed.get('user-data') ?? '')).toMatchObject({
        hostname,
        users: [{ name: user, ssh_authorized_keys: [key] }],
        ssh_keys: { ed25519_private: privateKey, ed25519_public: publicKey },
      });
    }),
  );
});

test('the pocket guest reads the same out of it', async () => {
  const script = fileURLToPath(new URL('../guest/pocket/root/usr/lib/pocket/yaml.awk', import.meta.url));
  const read = async (name: string): Promise<string[]> => {
    const { stdout } = await runCommand('awk', ['-f', script], { input: documents(web).get(name) ?? '' });
    return stdout.split('\n');
  };
  expect(await read('meta-data')).toContain('instance-id\tweb-1');
  const lines = await read('user-data');
  const lan = { mac: '02:4c:0a:4d:00:0b', address: '10.77.0.11', prefixLength: 24, hosts: [] };
  const network = documents(web, { ...identity, lan }).get('network-config') ?? '';
  const { stdout } = await runCommand('awk', ['-f', script], { input: network });
  expect(stdout.split('\n')).toContain('ethernets.lan0.match.macaddress\t02:4c:0a:4d:00:0b');
  expect(stdout.split('\n')).toContain('ethernets.lan0.addresses.0\t10.77.0.11/24');
  expect(lines).toContain('users.0.name\tvm');
  expect(lines).toContain('users.0.ssh_authorized_keys.0\tssh-ed25519 AAAA me@home');
  expect(lines).toContain(`ssh_keys.ed25519_private\t${hostKey.privateKey.replaceAll('\n', String.raw`\n`)}`);
});
