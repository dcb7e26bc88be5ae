/**
 * `ProjectDefinition` to `VmSpec`: every default filled in, every path absolute, once and for all. Pure; whether the
 * files exist is `check-files`' question.
 */
import { dirname, join, resolve as resolvePath } from 'node:path';
import { fileURLToPath } from 'node:url';
import { unreachable } from '../errors.js';
import type { ProjectDefinition, ProvisionDeclaration, VmDefinition } from '../model/definition.js';
import { type LanPlace, lanPlace } from '../model/lan.js';
import type { Located, Span } from '../model/source.js';
import type { BackendKind } from '../model/vm.js';
import type {
  ChecksumList,
  ChecksumSource,
  CloudInitSpec,
  FirmwareKind,
  ImageSource,
  NetworkSpec,
  ProvisionStep,
  ReadySpec,
  VmSpec,
} from '../model/spec.js';
import { type Diagnostic, Findings } from './diagnostic.js';
import { type Member, isGroup, memberHostname, membersOf } from './groups.js';
import { parseChecksum } from './names.js';
import { type Lans, lansOf } from './lans.js';
import { didYouMean } from './suggest.js';
import { reportForeignNetwork, usualBackend } from './host-networks.js';
import { listOf } from './values.js';

/** A named public cloud image, for the host's architecture. */
export interface ImagePreset {
  readonly url: string;
  readonly checksum: ChecksumList;
  /** The user that the image's cloud-init makes. */
  readonly user: string;
  readonly firmware: FirmwareKind;
}

export interface ImagePresets {
  /** All names, for suggestions. */
  readonly names: readonly string[];
  /** Undefined for an unknown name, and for a known one without an image for the host's architecture. */
  find(name: string): ImagePreset | undefined;
}

export interface ResolveOptions {
  /** Absolute; what a leading `~/` stands for. */
  readonly home: string;
  readonly presets: ImagePresets;
  /** What runs the VMs, and so which networks there are; default that of this platform. */
  readonly backend?: BackendKind | undefined;
}

export type FileRole =
  | 'image'
  | 'checksum-list'
  | 'ssh-key'
  | 'private-key'
  | 'user-data'
  | 'network-config'
  | 'script'
  | 'source';

/** A file that a VM needs, and where the VMFile names it. */
export interface NeededFile {
  /** Absolute. */
  readonly path: string;
  readonly span: Span;
  readonly role: FileRole;
  readonly vm: string;
  /** Of a network-config: the VM's card on a LAN, which nothing else configures then. */
  readonly lan?: LanPlace | null;
}

export interface ResolvedProject {
  /** In source order; a VM with an error is left out. */
  readonly specs: readonly VmSpec[];
  readonly files: readonly NeededFile[];
  readonly diagnostics: readonly Diagnostic[];
}

export const DEFAULTS = {
  vcpus: 1,
  memoryMib: 1024,
  user: 'vm',
  firmware: 'bios',
  bridge: 'br0',
  run: 'always',
} as const;

/** Makes every decision that a VMFile leaves open. */
export function resolveProject(project: ProjectDefinition, options: ResolveOptions): ResolvedProject {
  const findings = new Findings();
  const files: NeededFile[] = [];
  const lans = lansOf(project.vms);
  const specs = project.vms.flatMap((vm) => {
    const spec = resolveVm(vm, { project, options, findings, files, lans });
    return spec === null ? [] : membersOf(vm).map((member) => specOfMember(spec, member, lans));
  });
  return { specs, files, diagnostics: findings.diagnostics };
}

/** The VM of a declaration: all that is its own is its name, its hostname and its place on a LAN. */
function specOfMember(declared: VmSpec, { name, group }: Member, lans: Lans): VmSpec {
  const { cloudInit, network } = declared;
  const lan = lans.get(name) ?? null;
  const spec = { ...declared, name, group, network: network.kind === 'user' ? { ...network, lan } : network };
  if (group === null || cloudInit === null) return spec;
  return { ...spec, cloudInit: { ...cloudInit, hostname: memberHostname(cloudInit.hostname, group) } };
}

interface Context {
  readonly project: ProjectDefinition;
  readonly options: ResolveOptions;
  readonly findings: Findings;
  readonly files: NeededFile[];
  readonly lans: Lans;
}

/** Makes a path of the VMFile absolute and notes that the file is needed. */
type Locate = (path: Located<string>, role: FileRole) => string;

function resolveVm(vm: VmDefinition, context: Context): VmSpec | null {
  const { findings, project, options } = context;
  const foreign = reportForeignNetwork(vm, options.backend ?? usualBackend(), findings);
  const folder = dirname(project.source.path);
  const network = resolveNetwork(vm);
  const [first] = membersOf(vm);
  const lan = first === undefined ? null : lanPlace(context.lans.get(first.name) ?? null);
  const locate: Locate = ({ value, span }, role) => {
    const path = absolute(value, { folder, home: options.home });
    context.files.push({
      path,
      span,
      role,
      vm: vm.name.value,
      ...(role === 'network-config' ? { lan } : {}),
    });
    return path;
  };
  const image = resolveImage(vm, { ...context, locate });
  const cloudInit = resolveCloudInit(vm, locate);
  const ssh = vm.ssh?.value;
  const privateKey = ssh?.privateKey === undefined ? null : locate(ssh.privateKey, 'private-key');
  const provision = vm.provision.map((step) => resolveStep(step.value, locate));
  if (image === null || foreign) return null;
  return {
    name: vm.name.value,
    group: null,
    project: project.source.path,
    image: image.source,
    vcpus: vm.vcpus?.value ?? DEFAULTS.vcpus,
    memoryMib: vm.memory?.value ?? DEFAULTS.memoryMib,
    diskBytes: vm.disk?.value ?? null,
    firmware: vm.firmware?.value ?? image.firmware ?? DEFAULTS.firmware,
    network,
    cloudInit,
    ssh: {
      declared: ssh !== undefined,
      user: ssh?.user?.value ?? image.user ?? DEFAULTS.user,
      privateKey,
      timeoutSeconds: ssh?.timeout?.value ?? null,
    },
    dependsOn: resolveDependencies(vm, project),
    ready: resolveReady(vm),
    provision,
    warm: vm.warm?.value ?? null,
  };
}

/** The name of a group means all of it. */
function resolveDependencies(vm: VmDefinition, { vms }: ProjectDefinition): readonly string[] {
  const names = vm.dependsOn.flatMap(({ value }) => {
    const group = vms.find((other) => other.name.value === value && isGroup(other));
    return group === undefined ? [value] : membersOf(group).map(({ name }) => name);
  });
  return [...new Set(names)];
}

function absolute(path: string, { folder, home }: { readonly folder: string; readonly home: string }): string {
  if (path === '~') return home;
  return path.startsWith('~/') ? join(home, path.slice(2)) : resolvePath(folder, path);
}

interface ResolvedImage {
  readonly source: ImageSource;
  /** What a preset knows of its image; null for any other. */
  readonly user: string | null;
  readonly firmware: FirmwareKind | null;
}

type Locating = Context & { readonly locate: Locate };

function resolveImage(vm: VmDefinition, context: Locating): ResolvedImage | null {
  // Parsing has reported it.
  if (vm.image === undefined) return null;
  const checksum = resolveChecksum(vm.checksum, context);
  if (checksum === 'wrong') return null;
  const { value: image, span } = vm.image;
  switch (image.kind) {
    case 'path':
      return unknownImage({ kind: 'file', path: context.locate({ value: image.path, span }, 'image') });
    case 'url': {
      if (!/^file:/i.test(image.url)) return unknownImage({ kind: 'url', url: image.url, checksum });
      const path = resolveFileUrl({ value: image.url, span }, 'image', context);
      return path === null ? null : unknownImage({ kind: 'file', path });
    }
    case 'preset':
      return resolvePreset({ value: image.preset, span }, checksum, context);
    default:
      return unreachable(image);
  }
}

function unknownImage(source: ImageSource): ResolvedImage {
  return { source, user: null, firmware: null };
}

/** Null where there is none; parsing has reported one that cannot be read. */
function resolveChecksum(checksum: Located<string> | undefined, context: Locating): ChecksumSource | null | 'wrong' {
  const parsed = checksum === undefined ? undefined : parseChecksum(checksum.value);
  if (checksum === undefined || parsed?.ok !== true) return null;
  if (parsed.value.algorithm === 'list' && /^file:/i.test(parsed.value.url)) {
    if (resolveFileUrl(checksum, 'checksum-list', context) === null) return 'wrong';
  }
  return parsed.value;
}

/** The absolute path; null when the URL names no file of this host. */
function resolveFileUrl(
  { value, span }: Located<string>,
  role: FileRole,
  { findings, locate }: Locating,
): string | null {
  const url = new URL(value);
  if (url.host !== '' && url.host !== 'localhost') {
    findings.error({
      code: 'invalid-value',
      message: `a \`file://\` URL names a file of this host, not of "${url.host}"`,
      span,
      hint: `for an absolute path write three slashes: file:///${url.host}${url.pathname}`,
    });
    return null;
  }
  const path = pathOf(url);
  if (path === null) {
    const message = 'this `file://` URL names no file: its path has an escaped slash or a broken escape';
    findings.error({ code: 'invalid-value', message, span });
    return null;
  }
  return locate({ value: path, span }, role);
}

function pathOf(url: URL): string | null {
  try {
    return fileURLToPath(`file://${url.pathname}`);
  } catch {
    return null;
  }
}

/** `checksum` is the VMFile's own, which holds a preset to one build of its image. */
function resolvePreset(
  { value, span }: Located<string>,
  checksum: ChecksumSource | null,
  context: Context,
): ResolvedImage | null {
  const { presets } = context.options;
  const preset = presets.find(value);
  if (preset !== undefined) {
    const { url, user, firmware } = preset;
    return { source: { kind: 'url', url, checksum: checksum ?? preset.checksum }, user, firmware };
  }
  if (presets.names.includes(value)) {
    const message = `the image preset "${value}" has no image for the architecture of this host`;
    context.findings.error({ code: 'unknown-value', message, span, hint: 'name an image with `image-url`' });
    return null;
  }
  const known = `there are ${listOf(
    presets.names.map((name) => `"${name}"`),
    'and',
  )}`;
  const hint = didYouMean(value, presets.names, '"') ?? (presets.names.length === 0 ? undefined : known);
  context.findings.error({ code: 'unknown-value', message: `no image preset is called "${value}"`, span, hint });
  return null;
}

function resolveNetwork(vm: VmDefinition): NetworkSpec {
  const network = vm.network?.value;
  if (network === undefined) return { kind: 'user', forwards: [], lan: null };
  switch (network.kind) {
    case 'user':
      return { kind: 'user', forwards: network.forwards.map((forward) => forward.value), lan: null };
    case 'tap':
      return { kind: 'tap', bridge: network.bridge?.value ?? DEFAULTS.bridge };
    case 'vnic':
      return { kind: 'vnic', vnic: network.vnic.value };
    case 'none':
      return { kind: 'none' };
    default:
      return unreachable(network);
  }
}

function resolveCloudInit(vm: VmDefinition, locate: Locate): CloudInitSpec | null {
  if (vm.cloudInit === undefined) return null;
  const { hostname, sshKey, userData, networkConfig } = vm.cloudInit.value;
  return {
    hostname: hostname?.value ?? vm.name.value,
    userData: chooseUserData(),
    networkConfig: networkConfig === undefined ? null : locate(networkConfig, 'network-config'),
  };

  function chooseUserData(): CloudInitSpec['userData'] {
    if (userData !== undefined) return { kind: 'raw', path: locate(userData, 'user-data') };
    if (sshKey !== undefined) return { kind: 'public-key', path: locate(sshKey, 'ssh-key') };
    return { kind: 'generated-key' };
  }
}

function resolveReady(vm: VmDefinition): ReadySpec | null {
  if (vm.ready === undefined) return null;
  const { conditions, timeout } = vm.ready.value;
  return { conditions: conditions.map(({ value }) => value), timeoutSeconds: timeout?.value ?? null };
}

function resolveStep(step: ProvisionDeclaration, locate: Locate): ProvisionStep {
  const common = { run: step.run?.value ?? DEFAULTS.run, timeoutSeconds: step.timeout?.value ?? null };
  if (step.kind === 'file') {
    const source = locate(step.source, 'source');
    return { kind: 'file', source, destination: step.destination.value, ...common };
  }
  const { command } = step;
  return {
    kind: 'shell',
    command:
      command.kind === 'inline'
        ? { kind: 'inline', text: command.text.value }
        : { kind: 'script', path: locate(command.path, 'script') },
    environment: Object.fromEntries(step.environment.map(({ value }) => [value.name, value.value])),
    ...common,
  };
}
