/** How a VM is logged in to: which keys are tried, in which order, and which host key it must show. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { VmHandle } from '../src/model/vm.js';
import { VM_FILES } from '../src/paths.js';
import { knownHostsLine } from '../src/ssh/keys.js';
import type { HostKeyPolicy, PrivateKeySource, SshTarget } from '../src/ssh/target.js';
import { exists, readTextIfPresent, writeFileAtomically } from '../src/util/fs.js';

export interface AccessOptions {
  readonly home: string;
  /** Overrides the user of the VM. */
  readonly user?: string | undefined;
  /** A private key that the user names. */
  readonly key?: string | undefined;
}

/** Private keys that exist, in the order in which they are tried. */
export async function identityFiles(handle: VmHandle, options: AccessOptions): Promise<readonly string[]> {
  const { ssh, cloudInit } = handle.spec;
  const candidates = [
    join(handle.directory, VM_FILES.privateKey),
    options.key,
    ssh.privateKey,
    cloudInit?.userData.kind === 'public-key' ? cloudInit.userData.path.replace(/\.pub$/, '') : null,
    ...['id_ed25519', 'id_ecdsa', 'id_rsa'].map((name) => join(options.home, '.ssh', name)),
  ].filter((path) => path !== null && path !== undefined);
  const found: string[] = [];
  for (const path of new Set(candidates)) {
    if (path === options.key || (await exists(path))) found.push(path);
  }
  return found;
}

/** Everything about the login but the address, which changes with every start. */
export async function sshAccess(handle: VmHandle, options: AccessOptions): Promise<Omit<SshTarget, 'endpoint'>> {
  const privateKeys: PrivateKeySource[] = [];
  for (const source of await identityFiles(handle, options)) {
    privateKeys.push({ source, key: await readFile(source, 'utf8') });
  }
  return { user: options.user ?? handle.spec.ssh.user, privateKeys, hostKey: await hostKeyPolicy(handle) };
}

/**
 * The key that was injected through the seed. Where there was no seed the first key that the guest shows is kept, and
 * demanded from then on.
 */
async function hostKeyPolicy(handle: VmHandle): Promise<HostKeyPolicy> {
  const path = join(handle.directory, VM_FILES.knownHosts);
  const line = (await readTextIfPresent(path))?.trim();
  if (line !== undefined && line !== '') return { kind: 'pinned', publicKey: line.split(' ').slice(1, 3).join(' ') };
  const onLearned = (publicKey: string) => writeFileAtomically(path, knownHostsLine(handle.name, publicKey));
  return { kind: 'learn', onLearned };
}
