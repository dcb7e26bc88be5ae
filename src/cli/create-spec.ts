/** The flags of `vmctl create` as a spec: the same rules and defaults as in a VMFile. */
import { join } from 'node:path';
import { VmctlError } from '../errors.js';
import type { VmDefinition } from '../model/definition.js';
import type { Located } from '../model/source.js';
import type { VmSpec } from '../model/spec.js';
import type { BackendKind } from '../model/vm.js';
import { checkFiles } from '../vmfile/check-files.js';
import type { Diagnostic } from '../vmfile/diagnostic.js';
import { usualBackend } from '../vmfile/host-networks.js';
import { imageUrl, interfaceName, isUrl, vnicName } from '../vmfile/names.js';
import { resolveProject } from '../vmfile/resolve.js';

export interface CreateFlags {
  readonly name: string;
  readonly image?: string;
  readonly imageUrl?: string;
  readonly vcpus?: number;
  /** MiB */
  readonly memory?: number;
  /** Bytes */
  readonly disk?: number;
  readonly bridge?: string;
  readonly vnic?: string;
  /** Path of a raw user-data document. */
  readonly cloudInit?: string;
  /** Path of a public key. */
  readonly sshKey?: string;
}

/** Throws `USAGE` for what the flags say, `FILE_NOT_FOUND` for files that are missing or no such files. */
export async function specOfFlags(
  flags: CreateFlags,
  place: { readonly cwd: string; readonly home: string; readonly backend?: BackendKind | undefined },
): Promise<VmSpec> {
  checkFlags(flags);
  checkNetwork(flags, place.backend ?? usualBackend());
  const source = { path: join(place.cwd, 'command-line'), text: '' };
  const presets = { names: [], find: () => undefined };
  const { home, backend } = place;
  const resolved = resolveProject({ source, vms: [definition(flags)] }, { home, presets, backend });
  reportFirst('USAGE', resolved.diagnostics);
  reportFirst('FILE_NOT_FOUND', await checkFiles(resolved.files));
  const [spec] = resolved.specs;
  if (spec === undefined) throw new VmctlError('INTERNAL', 'Internal error: the flags made no VM');
  return { ...spec, project: null };
}

function checkFlags({ image, imageUrl: url, cloudInit, sshKey }: CreateFlags): void {
  if ((image === undefined) === (url === undefined)) {
    const problem = image === undefined ? 'a VM needs an image' : 'a VM has one image';
    throw new VmctlError('USAGE', problem, { hint: 'Give either --image PATH or --image-url URL.' });
  }
  if (image !== undefined && isUrl(image)) {
    throw new VmctlError('USAGE', `--image is a path, and ${JSON.stringify(image)} is a URL`, {
      hint: `Write: --image-url ${image}`,
    });
  }
  if (cloudInit !== undefined && sshKey !== undefined) {
    throw new VmctlError('USAGE', '--ssh-key has no effect together with --cloud-init: the document is used as it is', {
      hint: 'Put the key into the document, or leave --cloud-init out.',
    });
  }
  const wrongUrl = url === undefined ? null : imageUrl(url);
  if (wrongUrl !== null) {
    throw new VmctlError('USAGE', `--image-url must be the URL of an image: ${JSON.stringify(url)}, but ${wrongUrl}`, {
      hint: 'It starts with https://, http:// or file://.',
    });
  }
}

/** What illumos has is another thing than what Linux and macOS have. */
function checkNetwork({ bridge, vnic }: CreateFlags, backend: BackendKind): void {
  const wrongBridge = bridge === undefined ? null : interfaceName(bridge);
  if (wrongBridge !== null) {
    throw new VmctlError(
      'USAGE',
      `--bridge must be the name of a bridge: ${JSON.stringify(bridge)}, but ${wrongBridge}`,
    );
  }
  const wrongVnic = vnic === undefined ? null : vnicName(vnic);
  if (wrongVnic !== null) {
    throw new VmctlError('USAGE', `--vnic must be the name of a VNIC: ${JSON.stringify(vnic)}, but ${wrongVnic}`, {
      hint: 'For example: --vnic vmctl0',
    });
  }
  if (bridge !== undefined && vnic !== undefined) {
    throw new VmctlError('USAGE', 'a VM has one network', { hint: 'Give either --bridge or --vnic.' });
  }
  if (backend === 'propolis' && vnic === undefined) {
    const problem = bridge === undefined ? 'a VM on illumos needs a VNIC' : '--bridge names a bridge of Linux';
    throw new VmctlError('USAGE', problem, { hint: 'Give it a name, and it is made for the VM: --vnic vmctl0' });
  }
  if (backend === 'qemu' && vnic !== undefined) {
    throw new VmctlError('USAGE', '--vnic needs Propolis, which runs on illumos', {
      hint: 'Leave it out, or name a bridge of this host: --bridge br0',
    });
  }
}

/** A definition that stands nowhere: no place of it is ever shown. */
function definition(flags: CreateFlags): VmDefinition {
  const { image, imageUrl: url, vcpus, memory, disk, bridge, vnic, cloudInit, sshKey } = flags;
  const seed = cloudInit ?? sshKey;
  return {
    name: located(flags.name),
    span: NOWHERE,
    image: located(image === undefined ? { kind: 'url', url: url ?? '' } : { kind: 'path', path: image }),
    ...(vcpus === undefined ? {} : { vcpus: located(vcpus) }),
    ...(memory === undefined ? {} : { memory: located(memory) }),
    ...(disk === undefined ? {} : { disk: located(disk) }),
    ...(bridge === undefined ? {} : { network: located({ kind: 'tap', bridge: located(bridge) }) }),
    ...(vnic === undefined ? {} : { network: located({ kind: 'vnic', vnic: located(vnic) }) }),
    ...(seed === undefined
      ? {}
      : { cloudInit: located(cloudInit === undefined ? { sshKey: located(seed) } : { userData: located(seed) }) }),
    dependsOn: [],
    provision: [],
  };
}

const NOWHERE = { start: 0, end: 0 };

function located<const T>(value: T): Located<T> {
  return { value, span: NOWHERE };
}

function reportFirst(code: 'USAGE' | 'FILE_NOT_FOUND', diagnostics: readonly Diagnostic[]): void {
  const [first] = diagnostics.filter(({ severity }) => severity === 'error');
  if (first === undefined) return;
  throw new VmctlError(code, first.message, first.hint === null ? {} : { hint: first.hint });
}
