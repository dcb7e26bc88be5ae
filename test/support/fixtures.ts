/** Small builders of what tests are given: a place for files, and VMs in each stage. */
import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type StageContext, silentReporter } from '../../src/model/event.js';
import type { VmSpec } from '../../src/model/spec.js';
import type { BaseImage, KeyPair, ResolvedVm, VmHandle } from '../../src/model/vm.js';
import { type StatePaths, VM_FILES } from '../../src/paths.js';
import { generateKeyPair } from '../../src/ssh/keys.js';

export interface TemporaryDirectory extends AsyncDisposable {
  /** Absolute, symbolic links resolved. */
  readonly path: string;
}

/** A new directory that is removed with everything in it: `await using directory = await temporaryDirectory()`. */
export async function temporaryDirectory(prefix = 'vmctl-test-'): Promise<TemporaryDirectory> {
  const path = await realpath(await mkdtemp(join(tmpdir(), prefix)));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** Does the work with no more rights to files than an ordinary user has, also where the tests run as root. */
export async function withoutPrivileges<T>(work: () => Promise<T>): Promise<T> {
  if (process.geteuid?.() !== 0) return work();
  process.seteuid?.(65_534);
  try {
    return await work();
  } finally {
    process.seteuid?.(0);
  }
}

/** Nobody cancels and nobody listens. */
export const quiet: StageContext = { signal: new AbortController().signal, reporter: silentReporter };

/** A context whose `note` lines are kept. */
export function listening(): StageContext & { readonly lines: readonly string[] } {
  const lines: string[] = [];
  return { signal: quiet.signal, reporter: { ...silentReporter, log: (line) => void lines.push(line) }, lines };
}

export function vmSpec(changes: Partial<VmSpec> = {}): VmSpec {
  return {
    name: 'web',
    group: null,
    project: '/project/VMFile.kdl',
    image: { kind: 'file', path: '/images/base.qcow2' },
    vcpus: 2,
    memoryMib: 1024,
    diskBytes: null,
    firmware: 'bios',
    network: { kind: 'user', forwards: [], lan: null },
    cloudInit: { hostname: 'web', userData: { kind: 'generated-key' }, networkConfig: null },
    ssh: { declared: true, user: 'vm', privateKey: null, timeoutSeconds: null },
    dependsOn: [],
    ready: null,
    provision: [],
    warm: null,
    ...changes,
  };
}

export function vmHandle(changes: Partial<VmHandle> = {}): VmHandle {
  const spec = changes.spec ?? vmSpec(changes.name === undefined ? {} : { name: changes.name });
  return {
    name: spec.name,
    backend: 'noop',
    directory: `/state/vms/${spec.name}`,
    uuid: '6f6dfa32-5e3c-4c2b-8a0c-0d7b8a3a4f11',
    mac: spec.network.kind === 'none' ? null : '52:54:00:12:34:56',
    spec,
    image: { path: '/images/base.qcow2', format: 'qcow2', virtualBytes: 1024 ** 3 },
    createdAt: '2025-01-02T03:04:05.678Z',
    ...changes,
  };
}

/** Puts a prepared VM into a state directory, as a backend leaves it, and not into the registry. */
export async function putVm(
  paths: StatePaths,
  changes: Partial<VmHandle> & { readonly name: string },
): Promise<VmHandle> {
  const handle = vmHandle({ directory: paths.vm(changes.name), ...changes });
  await mkdir(handle.directory, { recursive: true });
  await writeFile(join(handle.directory, VM_FILES.handle), JSON.stringify(handle));
  return handle;
}

let keys: { readonly user: KeyPair; readonly host: KeyPair } | null = null;

/** A VM at the end of the resolve stage, with keys and a seed where its spec has cloud-init. */
export function resolvedVm(image: BaseImage, changes: Partial<VmSpec> = {}): ResolvedVm {
  const spec = vmSpec({ image: { kind: 'file', path: image.path }, ...changes });
  if (spec.cloudInit === null) return { spec, image, userKey: null, seed: null };
  keys ??= { user: generateKeyPair('test'), host: generateKeyPair('test host') };
  const seed = {
    hostname: spec.cloudInit.hostname,
    user: spec.ssh.user,
    authorizedKeys: [keys.user.publicKey],
    hostKey: keys.host,
    rawUserData: null,
    rawNetworkConfig: null,
  };
  return { spec, image, userKey: keys.user, seed };
}
