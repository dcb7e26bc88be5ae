/**
 * The disks of VMs: each a clone of a snapshot of its image, which is written to a volume once however many VMs stand
 * on it. The volume of an image goes with the last VM that stands on it.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { VmctlError } from '../../errors.js';
import { writeRaw } from '../../image/qemu-img.js';
import type { BaseImage } from '../../model/vm.js';
import { throwIfAborted } from '../../util/wait.js';
import { type Volume, parseVolumes } from './delimited.js';
import { type HostRunner, unless } from './host-runner.js';

const NOT_THERE = /does not exist|could not find any snapshots/;
const MIB = 1024 ** 2;

/** Whole blocks, whatever the size of a pool's blocks. */
const wholeMebibytes = (bytes: number): number => Math.ceil(bytes / MIB) * MIB;

/** Where a program finds the bytes of a volume. */
export function rawDevice(volume: string): string {
  return `/dev/zvol/rdsk/${volume}`;
}

export interface DiskPlace {
  /** The volume of the image. */
  readonly base: string;
  /** The volume of the VM. */
  readonly disk: string;
}

const snapshotOf = (base: string): string => `${base}@base`;

/** Names an image by its bytes, as `sha256sum` does. */
export async function digestOf({ path }: BaseImage, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  try {
    await pipeline(createReadStream(path), hash, { signal });
  } catch (error) {
    throwIfAborted(signal);
    throw error;
  }
  return hash.digest('hex');
}

export async function findVolume(name: string, host: HostRunner, signal?: AbortSignal): Promise<Volume | null> {
  const { stdout } = await host
    .look(['zfs', 'list', '-H', '-p', '-o', 'name,volsize,origin', name], signal)
    .catch(unless(NOT_THERE, { stdout: '', stderr: '' }));
  return parseVolumes(stdout).find((volume) => volume.name === name) ?? null;
}

async function hasSnapshot(base: string, host: HostRunner, signal?: AbortSignal): Promise<boolean> {
  return host
    .look(['zfs', 'list', '-H', '-o', 'name', snapshotOf(base)], signal)
    .then(() => true, unless(NOT_THERE, false));
}

/**
 * Makes sure that the image is on a volume with a snapshot. One without a snapshot is the rest of a conversion that was
 * broken off, and is made anew. The caller holds the image's lock.
 */
export async function makeBase(image: BaseImage, base: string, { host, signal }: Work): Promise<void> {
  if (await hasSnapshot(base, host, signal)) return;
  await removeVolume(base, host);
  await host.change(['zfs', 'create', '-p', base.slice(0, base.lastIndexOf('/'))], signal);
  const bytes = wholeMebibytes(image.virtualBytes);
  try {
    await host.change(['zfs', 'create', '-s', '-V', String(bytes), base], signal);
    await expectVolume(base, { bytes, origin: null }, { host, signal });
    await writeRaw(image, rawDevice(base), {
      signal,
      run: (program, words, options) => host.change([program, ...words], options?.signal),
    });
    await host.change(['zfs', 'snapshot', snapshotOf(base)], signal);
  } catch (error) {
    await releaseBase(base, host).catch(() => {});
    throw error;
  }
}

interface Work {
  readonly host: HostRunner;
  readonly signal: AbortSignal;
}

/** Makes the VM's own volume, of that size or of the image's. The caller holds the image's lock. */
export async function cloneDisk({ base, disk }: DiskPlace, diskBytes: number | null, work: Work): Promise<void> {
  const { host, signal } = work;
  await host.change(['zfs', 'create', '-p', disk.slice(0, disk.lastIndexOf('/'))], signal);
  await host.change(['zfs', 'clone', snapshotOf(base), disk], signal);
  try {
    const made = await findVolume(disk, host, signal);
    const bytes = diskBytes === null ? (made?.bytes ?? 0) : wholeMebibytes(diskBytes);
    if (made !== null && bytes > made.bytes) await host.change(['zfs', 'set', `volsize=${bytes}`, disk], signal);
    await expectVolume(disk, { bytes, origin: snapshotOf(base) }, work);
  } catch (error) {
    await removeVolume(disk, host).catch(() => {});
    throw error;
  }
}

async function expectVolume(name: string, wanted: Omit<Volume, 'name'>, { host, signal }: Work): Promise<void> {
  const found = await findVolume(name, host, signal);
  if (found?.bytes === wanted.bytes && found.origin === wanted.origin) return;
  const what = found === null ? 'is not there' : `has ${found.bytes} bytes and stands on ${found.origin ?? 'nothing'}`;
  const message = `zfs was to make the volume ${name} of ${wanted.bytes} bytes, and it ${what}`;
  throw new VmctlError('COMMAND_FAILED', message, {
    hint: 'Look at it with: zfs list -t all',
    fields: { volume: name },
  });
}

/** Removes a volume without snapshots; one that is not there is no failure. */
export async function removeVolume(name: string, host: HostRunner): Promise<void> {
  await host.change(['zfs', 'destroy', name]).catch(unless(NOT_THERE, null));
}

/** Removes the volume of an image unless another VM stands on it. The caller holds the image's lock. */
export async function releaseBase(base: string, host: HostRunner): Promise<void> {
  const inUse = await host
    .change(['zfs', 'destroy', snapshotOf(base)])
    .then(() => false, unless(/dependent clones/, true))
    .catch(unless(NOT_THERE, false));
  if (!inUse) await removeVolume(base, host);
}
