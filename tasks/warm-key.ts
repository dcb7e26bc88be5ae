/** What goes into a VM that may be frozen, part by part: another one of these, and it would have become another VM. */
import { readFile, stat } from 'node:fs/promises';
import { type CloudInitSpec, type VmSpec, stepTitle } from '../src/model/spec.js';
import type { BaseImage } from '../src/model/vm.js';
import type { WarmLevel } from '../src/model/warm.js';
import { stepDigest } from '../src/provision/step-digest.js';
import { type Components, digestOf } from '../src/warm/key.js';
import type { TaskEnvironment } from './context.js';

/**
 * Gives the digests by names that a person knows; null where a file cannot be read, which is then told by whoever
 * needs it. An image counts by its place, size and time of change, because it may be too large to be read each time.
 */
export async function warmComponents(
  env: Pick<TaskEnvironment, 'hypervisor' | 'signal'>,
  what: { readonly spec: VmSpec; readonly image: BaseImage; readonly level: WarmLevel },
): Promise<Components | null> {
  const { spec, image, level } = what;
  const { hypervisor, signal } = env;
  try {
    const parts: Record<string, unknown> = {
      ...(await hypervisor.stateFacts(signal)),
      backend: hypervisor.kind,
      VMFile: spec.project,
      name: spec.name,
      warm: level,
      image: [image.path, image.virtualBytes, await fileFacts(image.path)],
      vcpus: spec.vcpus,
      memory: spec.memoryMib,
      disk: spec.diskBytes,
      firmware: spec.firmware,
      network: guestNetwork(spec),
      'cloud-init': [spec.cloudInit, await cloudInitFiles(spec.cloudInit)],
      'ssh user': spec.ssh.user,
    };
    for (const [index, step] of spec.provision.entries()) {
      const digest = await stepDigest(step);
      if (digest === null) return null;
      parts[`provision step ${index + 1} (${stepTitle(step)})`] = digest;
    }
    return Object.fromEntries(Object.entries(parts).map(([name, part]) => [name, digestOf(part)]));
  } catch {
    return null;
  }
}

/** Forwards are the host's own affair: the guest does not see them. */
function guestNetwork({ network }: VmSpec): unknown {
  return network.kind === 'user' ? { ...network, forwards: null } : network;
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
