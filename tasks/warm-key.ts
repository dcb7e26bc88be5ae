/** What goes into a VM that may be frozen, part by part: another one of these, and it would have become another VM. */
import { readFile, stat } from 'node:fs/promises';
import { type CloudInitSpec, type VmGroup, type VmSpec, stepTitle } from '../src/model/spec.js';
import type { BaseImage } from '../src/model/vm.js';
import type { WarmLevel } from '../src/model/warm.js';
import { stepDigest } from '../src/provision/step-digest.js';
import { type Components, digestOf } from '../src/warm/key.js';
import { declaredIdentityFiles } from './access.js';
import type { TaskEnvironment } from './context.js';

/**
 * Gives the digests by names that a person knows; null where a file cannot be read, which is then told by whoever
 * needs it. An image counts by its place, size and time of change, because it may be too large to be read each time.
 */
export async function warmComponents(
  env: Pick<TaskEnvironment, 'home' | 'hypervisor' | 'signal'>,
  what: { readonly spec: VmSpec; readonly image: BaseImage; readonly level: WarmLevel },
): Promise<Components | null> {
  const { spec, image, level } = what;
  const { home, hypervisor, signal } = env;
  try {
    const parts: Record<string, unknown> = {
      ...(await hypervisor.stateFacts(signal)),
      backend: hypervisor.kind,
      VMFile: spec.project,
      name: kindOf(spec),
      warm: level,
      image: [image.path, image.virtualBytes, await fileFacts(image.path)],
      vcpus: spec.vcpus,
      memory: spec.memoryMib,
      disk: spec.diskBytes,
      firmware: spec.firmware,
      network: guestNetwork(spec),
      'cloud-init': [commonCloudInit(spec), await cloudInitFiles(spec.cloudInit)],
      'ssh user': spec.ssh.user,
      'ssh key': await loginKeys(spec, home),
    };
    for (const [index, step] of spec.provision.entries()) {
      // Run after the VM was frozen, in each that starts from it.
      if (step.run === 'each') continue;
      const digest = await stepDigest(step);
      if (digest === null) return null;
      parts[`provision step ${index + 1} (${stepTitle(step)})`] = digest;
    }
    return Object.fromEntries(Object.entries(parts).map(([name, part]) => [name, digestOf(part)]));
  } catch {
    return null;
  }
}

/** What VMs have in common that start from the same frozen one: the name of their group. */
export function kindOf({ name, group }: Pick<VmSpec, 'name' | 'group'>): string {
  return group?.name ?? name;
}

/** Without what tells the VMs of a group apart. */
function commonCloudInit({ cloudInit, group }: VmSpec): CloudInitSpec | null {
  if (cloudInit === null || group === null) return cloudInit;
  const [label = '', ...domain] = cloudInit.hostname.split('.');
  return { ...cloudInit, hostname: [label.replace(new RegExp(`-${group.index}$`), ''), ...domain].join('.') };
}

/**
 * One that goes on is used without another login, so it is another one for other keys to log in with. A key that is
 * generated for the VM goes with it.
 */
async function loginKeys(spec: VmSpec, home: string): Promise<readonly string[]> {
  if (spec.cloudInit?.userData.kind === 'generated-key' && spec.ssh.privateKey === null) return [];
  const files = await declaredIdentityFiles(spec, { home });
  return Promise.all(files.map((path) => readFile(path, 'base64')));
}

/** Forwards are the host's own affair: the guest does not see them. What is each VM's own in a group comes afterwards. */
function guestNetwork({ network, group }: VmSpec): unknown {
  if (network.kind !== 'user') return network;
  const { lan } = network;
  if (lan === null || group === null) return { ...network, forwards: null };
  const others = lan.members.filter(({ vm }) => !isOfGroup(vm, group));
  return { ...network, forwards: null, lan: { name: lan.name, members: others } };
}

/** A group's names are taken: nothing else in the VMFile is called so. */
function isOfGroup(vm: string, { name }: VmGroup): boolean {
  return vm.startsWith(`${name}-`) && /^[1-9][0-9]*$/.test(vm.slice(name.length + 1));
}

async function cloudInitFiles(cloudInit: CloudInitSpec | null): Promise<readonly (string | null)[]> {
  if (cloudInit === null) return [];
  const { userData, networkConfig } = cloudInit;
  const paths = [userData.kind === 'generated-key' ? null : userData.path, networkConfig];
  return Promise.all(paths.map(async (path) => (path === null ? null : readFile(path, 'base64'))));
}

async function fileFacts(path: string): Promise<readonly number[]> {
  const { size, mtimeMs } = await stat(path);
  return [size, Math.trunc(mtimeMs)];
}
