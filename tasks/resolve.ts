/** Resolve: everything that preparing a VM needs is fetched, read or made. Nothing of the VM exists yet. */
import { readFile, realpath, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { presetShell } from '../presets/images.js';
import { noteLocalUse } from '../src/image/cache-index.js';
import { inspectImage } from '../src/image/qemu-img.js';
import { VmctlError } from '../src/errors.js';
import { type StageContext, silentReporter } from '../src/model/event.js';
import type { CloudInitSpec, ImageSource, VmSpec } from '../src/model/spec.js';
import type { BaseImage, KeyPair, ResolvedVm, SeedContent } from '../src/model/vm.js';
import { generateKeyPair } from '../src/ssh/keys.js';
import { type TaskEnvironment, takePlace } from './context.js';

export async function resolveVm(env: TaskEnvironment, spec: VmSpec, context: StageContext): Promise<ResolvedVm> {
  const path = await localImage(env, spec.image, context);
  const image = await withFileFacts(env, await inspectImage(path, { signal: context.signal }));
  const { cloudInit } = spec;
  if (cloudInit === null) return { spec, image, userKey: null, seed: null };
  const userKey = cloudInit.userData.kind === 'generated-key' ? generateKeyPair(`vmctl ${spec.name}`) : null;
  return { spec, image, userKey, seed: await seedContent(spec, cloudInit, userKey) };
}

/** The image where it is on this host already; null where it is not, or cannot be used. Fetches nothing. */
export async function imageAtHand(env: TaskEnvironment, source: ImageSource): Promise<BaseImage | null> {
  if (env.pull === 'always') return null;
  const context = { signal: env.signal, reporter: silentReporter };
  try {
    const path = await localImage({ ...env, pull: 'never' }, source, context);
    return await withFileFacts(env, await inspectImage(path, context));
  } catch {
    return null;
  }
}

/** With what tells later that the file was replaced; one of the cache never is, however often it is fetched anew. */
async function withFileFacts({ paths }: TaskEnvironment, image: BaseImage): Promise<BaseImage> {
  if (dirname(image.path) === (await realpath(paths.images).catch(() => null))) return image;
  const { size, mtimeMs } = await stat(image.path);
  return { ...image, file: { bytes: size, modifiedMs: Math.trunc(mtimeMs) } };
}

/** The path of the image on this host; a URL is downloaded unless it is in the cache. */
async function localImage(env: TaskEnvironment, source: ImageSource, context: StageContext): Promise<string> {
  const { paths, command, variables, home, limits, pull } = env;
  if (source.kind === 'file') {
    await noteLocalUse(source.path, { directory: paths.images, command, signal: context.signal });
    return source.path;
  }
  // Loaded when an image has a URL: an HTTP client takes longer to load than everything else of an `up` of VMs that run.
  const { fetchImage } = await import('../src/image/cache.js');
  return fetchImage(source, {
    directory: paths.images,
    command,
    environment: variables,
    home,
    pull,
    takePlace: (signal) => takePlace(limits.downloads, signal),
    ...context,
  });
}

async function seedContent(spec: VmSpec, cloudInit: CloudInitSpec, userKey: KeyPair | null): Promise<SeedContent> {
  const { userData } = cloudInit;
  const shell = spec.image.kind === 'url' ? presetShell(spec.image.url) : undefined;
  const authorizedKeys = userKey === null ? [] : [userKey.publicKey];
  if (userData.kind === 'public-key') authorizedKeys.push((await readInput(userData.path)).trim());
  return {
    hostname: cloudInit.hostname,
    user: spec.ssh.user,
    ...(shell === undefined ? {} : { shell }),
    authorizedKeys,
    hostKey: generateKeyPair(`vmctl ${spec.name} host key`),
    rawUserData: userData.kind === 'raw' ? await readInput(userData.path) : null,
    rawNetworkConfig: cloudInit.networkConfig === null ? null : await readInput(cloudInit.networkConfig),
  };
}

async function readInput(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new VmctlError('FILE_NOT_FOUND', `cannot read ${path}: ${String(cause)}`, { cause, fields: { path } });
  }
}
