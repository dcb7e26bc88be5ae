/** How a VM is logged in to: which keys are tried, in which order, and which host key it must show. */
import { constants } from 'node:fs';
import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { VmctlError } from '../src/errors.js';
import type { VmSpec } from '../src/model/spec.js';
import type { VmHandle } from '../src/model/vm.js';
import { VM_FILES } from '../src/paths.js';
import { knownHostsLine } from '../src/ssh/keys.js';
import type { HostKeyPolicy, PrivateKeySource, SshTarget } from '../src/ssh/target.js';
import { readTextIfPresent, writeFileAtomically } from '../src/util/fs.js';

export interface AccessOptions {
  readonly home: string;
  /** Overrides the user of the VM. */
  readonly user?: string | undefined;
  /** A private key that the user names. */
  readonly key?: string | undefined;
}

/**
 * Private keys in the order in which they are tried: those that somebody named, and those of the usual places that are
 * there and may be read.
 */
export function identityFiles(handle: VmHandle, options: AccessOptions): Promise<readonly string[]> {
  return usableFiles([join(handle.directory, VM_FILES.privateKey)], handle.spec, options);
}

/** The same for a VM that is not there yet, without the key that is generated for it. */
export function declaredIdentityFiles(spec: VmSpec, options: AccessOptions): Promise<readonly string[]> {
  return usableFiles([], spec, options);
}

async function usableFiles(
  own: readonly string[],
  { ssh, cloudInit }: VmSpec,
  options: AccessOptions,
): Promise<readonly string[]> {
  const named = [options.key, ssh.privateKey];
  const candidates = [
    ...own,
    ...named,
    cloudInit?.userData.kind === 'public-key' ? cloudInit.userData.path.replace(/\.pub$/, '') : null,
    ...['id_ed25519', 'id_ecdsa', 'id_rsa'].map((name) => join(options.home, '.ssh', name)),
  ].filter((path) => path !== null && path !== undefined);
  const found: string[] = [];
  for (const path of new Set(candidates)) {
    if (named.includes(path) || (await isReadable(path))) found.push(path);
  }
  return found;
}

async function isReadable(path: string): Promise<boolean> {
  return access(path, constants.R_OK).then(
    () => true,
    () => false,
  );
}

/** Everything about the login but the address, which changes with every start. */
export async function sshAccess(handle: VmHandle, options: AccessOptions): Promise<Omit<SshTarget, 'endpoint'>> {
  const privateKeys: PrivateKeySource[] = [];
  for (const source of await identityFiles(handle, options)) {
    privateKeys.push({ source, key: await readKey(source) });
  }
  return { user: options.user ?? handle.spec.ssh.user, privateKeys, hostKey: await hostKeyPolicy(handle) };
}

async function readKey(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    const message = `the private key ${path} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`;
    throw new VmctlError('FILE_NOT_FOUND', message, { cause, fields: { path } });
  }
}

/**
 * The key that was injected through the seed; while the guest is given another one, either of them. Where there was no seed the first key that the guest shows is kept, and
 * demanded from then on.
 */
async function hostKeyPolicy(handle: VmHandle): Promise<HostKeyPolicy> {
  const path = join(handle.directory, VM_FILES.knownHosts);
  const lines = (await readTextIfPresent(path))?.split('\n').filter((line) => line.trim() !== '') ?? [];
  const [pinned, orElse] = lines.map((line) => line.split(' ').slice(1, 3).join(' '));
  if (pinned !== undefined) return { kind: 'pinned', publicKey: pinned, ...(orElse === undefined ? {} : { orElse }) };
  const onLearned = (publicKey: string) => writeFileAtomically(path, knownHostsLine(handle.name, publicKey));
  return { kind: 'learn', onLearned };
}
