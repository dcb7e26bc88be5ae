/** Which VMs stand on which image. An image under a VM's disk must stay, whatever the registry says of the VM. */
import { readdir, realpath } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve, sep } from 'node:path';
import { type CachedImage, listCachedImages } from '../src/image/cache-index.js';
import { readDiskHeader } from '../src/image/disk-header.js';
import { FROZEN_FILES } from '../src/hypervisor/hypervisor.js';
import { baseOf, listRuns } from '../src/lifetime/run.js';
import { VM_FILES } from '../src/paths.js';
import { Registry } from '../src/registry.js';
import { isMissing } from '../src/util/fs.js';
import { readManifest } from '../src/warm/manifest.js';
import type { TaskEnvironment } from './context.js';
import type { ImageFacts } from './image-policy.js';

export interface ImageUse {
  /** Names of VMs by the absolute path of an image, symbolic links resolved. */
  readonly users: ReadonlyMap<string, readonly string[]>;
  /** Disks that do not tell what they stand on: it may be any image. */
  readonly unreadable: readonly string[];
}

type World = Pick<TaskEnvironment, 'paths' | 'registry'>;

/** A state directory whose VMs stand on the images. */
export type StateOnImages = Pick<TaskEnvironment, 'paths' | 'registry'>;

/** This one, and those of the runs that share its images. */
export async function statesOnImages(env: World): Promise<readonly StateOnImages[]> {
  const base = await baseOf(env.paths);
  const others = [base, ...(await listRuns(base)).map(({ paths }) => paths)];
  return [
    env,
    ...others
      .filter(({ root }) => root !== env.paths.root)
      .map((paths) => ({ paths, registry: new Registry({ paths, command: 'vmctl' }) })),
  ];
}

/** Looks at every disk below `vms/`, those of runs included, and at what is recorded of each VM. */
export async function findImageUse(env: World): Promise<ImageUse> {
  const users = new Map<string, Set<string>>();
  const unreadable: string[] = [];
  const note = async (image: string, vm: string): Promise<void> => {
    const real = await realPathOf(image);
    users.set(real, (users.get(real) ?? new Set()).add(vm));
  };
  for (const { paths, registry } of await statesOnImages(env)) {
    for (const path of await filesBelow(paths.vms)) {
      const vm = vmOf(relative(paths.vms, path));
      const found = await backingOf(path);
      // Nobody needs a torn disk in a rest; while a living vmctl makes one, that protects the image by its lock.
      if (found === 'unknown') unreadable.push(...(isRest(relative(paths.vms, path)) ? [] : [path]));
      else if (found !== null) await note(found.image, vm);
    }
    for (const entry of (await registry.look()).entries) {
      const handle = await registry.handle(entry).catch(() => null);
      if (handle !== null) await note(handle.image.path, entry.name);
    }
  }
  // What is frozen stands on an image too, and whoever starts from it needs both.
  const { warm } = env.paths;
  for (const path of await filesBelow(warm)) {
    if (basename(path) !== FROZEN_FILES.disk) continue;
    const found = await backingOf(path);
    if (found !== null && found !== 'unknown') await note(found.image, await frozenName(dirname(path)));
  }
  return { users: new Map([...users].map(([image, names]) => [image, [...names].toSorted()])), unreadable };
}

async function frozenName(folder: string): Promise<string> {
  return `${(await readManifest(folder))?.name ?? basename(folder)} (frozen)`;
}

/** The VMs that stand on an image, by name. */
export async function usersOf(use: ImageUse, image: string): Promise<readonly string[]> {
  return use.users.get(await realPathOf(image)) ?? [];
}

/** Every complete image of the cache, with who needs it. */
export async function imageFacts(env: World): Promise<readonly (ImageFacts & CachedImage)[]> {
  const use = await findImageUse(env);
  const images = await listCachedImages(env.paths.images);
  return Promise.all(
    images.map(async (image) => ({ ...image, bytes: image.diskBytes, users: await usersOf(use, image.path) })),
  );
}

/** Symbolic links resolved, also for a file that is not there. */
async function realPathOf(path: string): Promise<string> {
  const parent = () => realpath(dirname(path)).then((real) => join(real, basename(path)));
  return realpath(path)
    .catch(parent)
    .catch(() => path);
}

/** The image below a disk; null where there is none, `unknown` where a disk cannot be read. */
async function backingOf(path: string): Promise<{ readonly image: string } | 'unknown' | null> {
  const isDisk = path.endsWith(`${sep}${VM_FILES.overlay}`);
  try {
    const header = await readDiskHeader(path);
    if (header.format === 'qcow2')
      return header.backingFile === null ? null : { image: resolve(dirname(path), header.backingFile) };
    return isDisk ? 'unknown' : null;
  } catch (error) {
    // Gone meanwhile: its VM was destroyed.
    return isMissing(error) ? null : 'unknown';
  }
}

/** The VM that a path below `vms/` belongs to, also while it is made or removed. */
function vmOf(path: string): string {
  const [top = ''] = path.split(sep);
  return top.replace(/^\.(?:staging|removing)-/, '');
}

function isRest(path: string): boolean {
  return path.startsWith('.');
}

async function filesBelow(directory: string): Promise<readonly string[]> {
  try {
    const found = await readdir(directory, { recursive: true, withFileTypes: true });
    return found.filter((file) => file.isFile()).map((file) => join(file.parentPath, file.name));
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}
