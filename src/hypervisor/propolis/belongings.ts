/** What a VM has outside of its directory: made for it, looked for, and given back with whatever else needs it no more. */
import { basename, join } from 'node:path';
import { VmctlError } from '../../errors.js';
import type { VmSpec } from '../../model/spec.js';
import type { ResolvedVm, VmHandle } from '../../model/vm.js';
import { VM_FILES } from '../../paths.js';
import { withLock } from '../../util/lock.js';
import { stableMac } from '../work-directory.js';
import { staticAddress } from './guest-address.js';
import type { HostRunner } from './host-runner.js';
import { CAPABILITIES } from './options.js';
import { type Parts, readParts } from './parts.js';
import { type WantedVnic, removeVnic } from './vnic.js';
import { cloneDisk, digestOf, makeBase, releaseBase, removeVolume } from './volumes.js';

/** Where belongings are, and who makes them. */
export interface Estate {
  readonly host: HostRunner;
  /** The ZFS dataset below which the disks are. */
  readonly dataset: string;
  /** Where locks are. */
  readonly locks: string;
}

/** What a new VM is to have; nothing of it is made yet. */
export async function planParts(
  { spec, image, seed }: ResolvedVm,
  { uuid, dataset, signal }: { readonly uuid: string; readonly dataset: string; readonly signal: AbortSignal },
): Promise<Parts> {
  const vnic = vnicOf(spec, null);
  return {
    uuid,
    base: `${dataset}/images/${(await digestOf(image, signal)).slice(0, 32)}`,
    disk: `${dataset}/vms/${spec.name}-${uuid.slice(0, 8)}`,
    vnic: vnic === null ? null : { name: vnic.name, mac: vnic.mac },
    address: staticAddress(seed?.rawNetworkConfig ?? null),
  };
}

/** The network card of a VM; null where it has none. `over` is the link that it is to stand on. */
export function vnicOf({ name, project, network }: VmSpec, over: string | null): WantedVnic | null {
  if (network.kind === 'none') return null;
  if (network.kind === 'vnic') return { name: network.vnic, mac: stableMac(project, name), over };
  // Only where the check of the host was left out can it be of another kind.
  const ability = CAPABILITIES.networks[network.kind];
  throw new VmctlError('UNSUPPORTED', `VM "${name}": ${ability.supported ? 'no network' : ability.reason}`);
}

/** Makes the volume of the image, once for all who stand on it, and that of the VM. */
export async function makeDisk(
  { image, spec }: ResolvedVm,
  parts: Parts,
  { estate, signal }: { readonly estate: Estate; readonly signal: AbortSignal },
): Promise<void> {
  const work = { host: estate.host, signal };
  await withBase(
    parts,
    estate,
    async () => {
      await makeBase(image, parts.base, work);
      await cloneDisk(parts, spec.diskBytes, work);
    },
    signal,
  );
}

/** Removes what a VM has outside of its directory; what is gone already is no failure. */
export async function releaseParts(parts: Parts | null, estate: Estate): Promise<void> {
  if (parts === null) return;
  const { host } = estate;
  if (parts.vnic !== null) await removeVnic(parts.vnic, host);
  await withBase(parts, estate, async () => {
    await removeVolume(parts.disk, host);
    await releaseBase(parts.base, host);
  });
}

/** Nobody else makes or removes this image meanwhile, nor takes it for there while it is going. */
function withBase<T>({ base }: Parts, { locks }: Estate, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  const path = join(locks, `volume-${basename(base)}.lock`);
  return withLock(path, { command: 'vmctl', ...(signal === undefined ? {} : { signal }) }, work);
}

/** What was written down of a VM. Throws `VM_DAMAGED` where that is lost. */
export async function partsOf(handle: VmHandle): Promise<Parts> {
  const parts = await readParts(handle.directory);
  if (parts !== null) return parts;
  const what = `what VM "${handle.name}" stands on was written to a file that is gone or unreadable`;
  throw new VmctlError('VM_DAMAGED', what, {
    hint: `Make it anew: vmctl destroy ${handle.name}, then vmctl up`,
    fields: { vm: handle.name, path: join(handle.directory, VM_FILES.propolisParts) },
  });
}
