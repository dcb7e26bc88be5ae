/** The `vm` node: one machine, with everything that can be said about it. */
import type { ImageDeclaration, VmDefinition } from '../model/definition.js';
import type { Located, Span } from '../model/source.js';
import type { WarmLevel } from '../model/warm.js';
import type { Findings } from './diagnostic.js';
import { readCloudInit, readReady, readSsh } from './guest-nodes.js';
import type { KdlNode, KdlValue } from './kdl-tree.js';
import { imageUrl, isUrl, oneLine, parseChecksum, vmName } from './names.js';
import { readNetwork } from './network-node.js';
import { readProvision } from './provision-node.js';
import { Child, Children, type NodeField, readShape, readValue, Setting } from './shape.js';
import { choice, diskBytes, flagOr, integer, memoryMib, path, text, type ValueReader } from './values.js';

const VM_NAME = text(
  'the name of a VM',
  vmName,
  'it is a directory and a hostname: 1 to 63 of a-z A-Z 0-9 . _ -, a letter or digit first',
);

/** A URL would be a path too, of a file that nobody has. */
const IMAGE_PATH: ValueReader<string> = {
  expected: path.expected,
  read(value) {
    if (typeof value.value !== 'string' || !isUrl(value.value)) return path.read(value);
    const hint = `write: image-url ${value.text}`;
    return { ok: false, code: 'invalid-value', problem: `\`image\` is a path, and ${value.text} is a URL`, hint };
  },
};

/** Reads a `vm` node. Undefined where its name or its image is wrong or missing, which is then reported. */
export function readVm(node: KdlNode, findings: Findings): VmDefinition | undefined {
  const name = new Setting('name', VM_NAME);
  const count = new Setting('count', integer({ minimum: 1, maximum: 1000 }));
  const fields = vmFields();
  const { image, checksum, vcpus, memory, disk, firmware, network, cloudInit, ssh, ready, warm, dependsOn } = fields;
  const shape = { title: '`vm`', arguments: [name], properties: { count }, example: 'vm "web" { … }' };
  readShape(node, { ...shape, children: fields.children }, findings);
  const source = oneImage(node, image, findings);
  if (name.value === undefined) return undefined;
  return {
    name: name.value,
    span: node.span,
    ...(source === undefined ? {} : { image: source }),
    ...checksum.when((value) => ({ checksum: value })),
    ...count.when((value) => ({ count: value })),
    ...vcpus.when((value) => ({ vcpus: value })),
    ...memory.when((value) => ({ memory: value })),
    ...disk.when((value) => ({ disk: value })),
    ...firmware.when((value) => ({ firmware: value })),
    ...network.when((value) => ({ network: value })),
    ...cloudInit.when((value) => ({ cloudInit: value })),
    ...ssh.when((value) => ({ ssh: value })),
    dependsOn: dependsOn.names,
    ...ready.when((value) => ({ ready: value })),
    ...warm.when(({ value, span }) => ({ warm: { value: warmth(value), span } })),
    provision: fields.provision.values,
  };
}

/** The nodes that a `vm` can have. */
export function vmNodeNames(): readonly string[] {
  return Object.keys(vmFields().children);
}

interface ImageFields {
  readonly image: Setting<string>;
  readonly url: Setting<string>;
  readonly preset: Setting<string>;
}

function vmFields() {
  const image: ImageFields = {
    image: new Setting('image', IMAGE_PATH),
    url: new Setting(
      'image-url',
      text(
        'the URL of an image',
        imageUrl,
        'a URL stands in quotes and starts with https://, http://, file:// or oci://',
      ),
    ),
    preset: new Setting('image-preset', text('the name of an image preset', oneLine)),
  };
  const checksum = new Setting('checksum', text('a checksum', checksumRule, CHECKSUM_HINT));
  const vcpus = new Setting('vcpus', integer({ minimum: 1, maximum: 1024 }));
  const memory = new Setting('memory', memoryMib);
  const disk = new Setting('disk', diskBytes);
  const firmware = new Setting('firmware', choice(['bios', 'uefi']));
  const network = new Child('network', readNetwork);
  const cloudInit = new Child('cloud-init', readCloudInit);
  const ssh = new Child('ssh', readSsh);
  const ready = new Child('ready', readReady);
  const warm = new Setting('warm', flagOr(['disk']));
  const provision = new Children(readProvision);
  const dependsOn = new DependsOn();
  const children = {
    image: image.image,
    'image-url': image.url,
    'image-preset': image.preset,
    checksum,
    vcpus,
    memory,
    disk,
    firmware,
    network,
    'cloud-init': cloudInit,
    ssh,
    provision,
    'depends-on': dependsOn,
    ready,
    warm,
  };
  return {
    image,
    checksum,
    vcpus,
    memory,
    disk,
    firmware,
    network,
    cloudInit,
    ssh,
    ready,
    warm,
    provision,
    dependsOn,
    children,
  };
}

function warmth(value: boolean | 'disk'): WarmLevel {
  if (value === 'disk') return 'disk';
  return value ? 'memory' : 'off';
}

const CHECKSUM_HINT = 'write "sha256:" or "sha512:" and the digits, or the URL of a SHA256SUMS file';

function checksumRule(value: string): string | null {
  const checksum = parseChecksum(value);
  return checksum.ok ? null : checksum.problem;
}

function oneImage(node: KdlNode, fields: ImageFields, findings: Findings): Located<ImageDeclaration> | undefined {
  const given = Object.values(fields)
    .flatMap((field: Setting<string>) => (field.place === null ? [] : [{ name: field.name, place: field.place }]))
    .toSorted((a, b) => a.place.start - b.place.start);
  const [first, ...others] = given;
  if (first !== undefined) reportOtherImages(first, others, findings);
  else if (!isExcused(node, fields)) {
    findings.error({
      code: 'missing',
      message: '`vm` needs an image: `image`, `image-url` or `image-preset`',
      span: node.head,
      hint: 'for example: image "disk.qcow2"',
    });
  }
  const { image, url, preset } = fields;
  if (image.value !== undefined) return { value: { kind: 'path', path: image.value.value }, span: image.value.span };
  if (url.value !== undefined) return { value: { kind: 'url', url: url.value.value }, span: url.value.span };
  if (preset.value === undefined) return undefined;
  return { value: { kind: 'preset', preset: preset.value.value }, span: preset.value.span };
}

interface GivenImage {
  readonly name: string;
  readonly place: Span;
}

function reportOtherImages(first: GivenImage, others: readonly GivenImage[], findings: Findings): void {
  for (const other of others) {
    findings.error({
      code: 'conflict',
      message: `\`${first.name}\` and \`${other.name}\` cannot be given together: a VM has one image`,
      span: other.place,
      labels: [{ span: first.place, text: 'the image is given here' }],
      hint: 'keep one of them',
    });
  }
}

/** True where the image may be in a part that could not be read, or under a misspelt name. */
function isExcused(node: KdlNode, fields: ImageFields): boolean {
  return node.damage.head || node.damage.body || Object.values(fields).some((field: Setting<string>) => field.seen);
}

/** `depends-on "a" "b"`, on one node or several. */
class DependsOn implements NodeField {
  readonly names: Located<string>[] = [];

  node(node: KdlNode, findings: Findings): void {
    const take = (value: KdlValue): void => this.#take(value, findings);
    const rest = { name: 'the name of at least one VM', take };
    readShape(node, { title: '`depends-on`', rest, example: 'depends-on "db"' }, findings);
  }

  #take(value: KdlValue, findings: Findings): void {
    const name = readValue(value, { owner: '`depends-on`', reader: VM_NAME }, findings);
    if (name === undefined) return;
    const earlier = this.names.find((other) => other.value === name);
    if (earlier === undefined) {
      this.names.push({ value: name, span: value.span });
      return;
    }
    findings.error({
      code: 'duplicate',
      message: `\`depends-on\` names "${name}" twice`,
      span: value.span,
      labels: [{ span: earlier.span, text: 'first given here' }],
      hint: 'keep one of them',
    });
  }
}
