/** The rules that look at several places of a VMFile at once. */
import { unreachable } from '../errors.js';
import type { ForwardDeclaration, VmDefinition } from '../model/definition.js';
import type { Located } from '../model/source.js';
import { findCycles } from './cycles.js';
import type { Findings } from './diagnostic.js';
import { checkGroup, checkNames } from './group-checks.js';
import { declarationsByName } from './groups.js';
import { checkLans } from './lan-checks.js';
import { didYouMean } from './suggest.js';

export interface DeclaredVms {
  readonly vms: readonly VmDefinition[];
  /** False when VMs may be missing because they could not be read: then no name is called unknown. */
  readonly complete: boolean;
}

/** Reports contradictions inside a VM and between VMs. */
export function checkProject({ vms, complete }: DeclaredVms, findings: Findings): void {
  checkNames(vms, findings);
  for (const vm of vms) {
    checkChecksum(vm, findings);
    checkProvision(vm, findings);
    checkReady(vm, findings);
    checkStepOrder(vm, findings);
    checkGroup(vm, findings);
    checkGuestPorts(vm, findings);
  }
  checkHostPorts(vms, findings);
  checkVnics(vms, findings);
  checkLans(vms, findings);
  checkDependencies({ vms, complete }, findings);
}

function checkChecksum(vm: VmDefinition, findings: Findings): void {
  const { image, checksum } = vm;
  if (image === undefined) return;
  if (image.value.kind === 'url' && /^http:/i.test(image.value.url) && checksum === undefined) {
    findings.warning({
      code: 'insecure',
      message: 'an image over http:// can be changed on its way',
      span: image.span,
      hint: 'use https://, or add `checksum "sha256:…"`',
    });
  }
  if (checksum === undefined) return;
  const reason = noChecksum(image.value);
  if (reason === null) {
    checkListUrl(checksum, findings);
    return;
  }
  findings.error({
    code: 'conflict',
    message: `\`checksum\` is for an image that is downloaded, and ${reason}`,
    span: checksum.span,
    labels: [{ span: image.span, text: 'the image is given here' }],
    hint: 'leave `checksum` out',
  });
}

/** Whoever can change the image on its way may be able to change a list that comes as openly. */
function checkListUrl(checksum: Located<string>, findings: Findings): void {
  if (!/^http:/i.test(checksum.value) || !URL.canParse(checksum.value)) return;
  if (isLoopback(new URL(checksum.value).hostname)) return;
  findings.warning({
    code: 'insecure',
    message: 'a list of checksums over http:// can be changed on its way, and then proves nothing',
    span: checksum.span,
    hint: 'use https://, or give the digest itself: checksum "sha256:…"',
  });
}

/** As `URL` writes it: `127.0.0.1` for every spelling of it. */
function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(hostname);
}

function noChecksum(image: NonNullable<VmDefinition['image']>['value']): string | null {
  switch (image.kind) {
    case 'path':
      return '`image` is a file of yours';
    case 'preset':
      // It holds the preset, whose own list is that of the newest build, to one build.
      return null;
    case 'url':
      if (/^oci:/i.test(image.url)) return 'an `oci://` image is named by its digest';
      return /^file:/i.test(image.url) ? 'a `file://` image is a file of yours' : null;
    default:
      return unreachable(image);
  }
}

function checkProvision(vm: VmDefinition, findings: Findings): void {
  const [first] = vm.provision;
  if (first === undefined) return;
  if (vm.ssh === undefined) {
    findings.error({
      code: 'missing',
      message: `"${vm.name.value}" has provisioners but no \`ssh\` block`,
      span: first.span,
      hint: 'add one, for example: ssh { user "debian" }',
    });
  }
  if (vm.network?.value.kind === 'none') {
    findings.error({
      code: 'conflict',
      message: `"${vm.name.value}" has provisioners but no network`,
      span: first.span,
      labels: [{ span: vm.network.span, text: 'without a network there is no SSH' }],
      hint: 'leave `network "none"` out, or the provisioners',
    });
  }
}

/** A condition that nobody could ever see hold is told now, and not after its timeout. */
function checkReady(vm: VmDefinition, findings: Findings): void {
  const network = vm.network?.value.kind ?? 'user';
  if (vm.ssh !== undefined && network !== 'none') return;
  const name = vm.name.value;
  for (const { value: condition, span } of vm.ready?.value.conditions ?? []) {
    if (condition.kind === 'log') continue;
    const what = `\`${condition.kind}\` of \`ready\``;
    if (network === 'none') {
      findings.error({
        code: 'conflict',
        message: `${what} needs a network, and "${name}" has none`,
        span,
        ...(vm.network === undefined ? {} : { labels: [{ span: vm.network.span, text: 'this leads nowhere' }] }),
        hint: 'wait for a line of its console instead, for example: log "login:"',
      });
      continue;
    }
    const isOutside = condition.kind === 'port' || condition.kind === 'http';
    // A guest on a bridge or link has an address of its own.
    if (isOutside && (network !== 'user' || isForwarded(vm, condition.port))) continue;
    findings.error({
      code: 'missing',
      message: `${what} needs a login${isOutside ? ' or a forward' : ''}, and "${name}" has no \`ssh\` block`,
      span,
      hint: `add one, for example: ssh { user "debian" }${isOutside ? `; or a forward: network "user" { forward 0 ${condition.port} }` : ''}`,
    });
  }
}

function isForwarded(vm: VmDefinition, port: number): boolean {
  return forwardsOf(vm).some(({ value }) => value.guest === port);
}

/** What each VM of a group gets for itself comes after what all of them have in common. */
function checkStepOrder(vm: VmDefinition, findings: Findings): void {
  const first = vm.provision.find(({ value }) => value.run?.value === 'each');
  if (first === undefined) return;
  for (const step of vm.provision.slice(vm.provision.indexOf(first) + 1)) {
    if (step.value.run?.value === 'each') continue;
    findings.error({
      code: 'conflict',
      message: 'a step for all comes after one that is run on each VM by itself',
      span: step.span,
      labels: [{ span: first.value.run?.span ?? first.span, text: 'from here on all steps are `run="each"`' }],
      hint: 'move it before that one, or give it run="each" too',
    });
  }
}

function forwardsOf(vm: VmDefinition): readonly Located<ForwardDeclaration>[] {
  return vm.network?.value.kind === 'user' ? vm.network.value.forwards : [];
}

function checkGuestPorts(vm: VmDefinition, findings: Findings): void {
  const seen = new Map<number, Located<ForwardDeclaration>>();
  for (const forward of forwardsOf(vm)) {
    const first = seen.get(forward.value.guest);
    if (first === undefined) {
      seen.set(forward.value.guest, forward);
      continue;
    }
    findings.error({
      code: 'duplicate',
      message: `guest port ${forward.value.guest} is forwarded twice`,
      span: forward.span,
      labels: [{ span: first.span, text: 'first forwarded here' }],
      hint: 'keep one of them',
    });
  }
}

function checkHostPorts(vms: readonly VmDefinition[], findings: Findings): void {
  const seen = new Map<number, { readonly vm: VmDefinition; readonly forward: Located<ForwardDeclaration> }>();
  for (const vm of vms) {
    for (const forward of forwardsOf(vm)) {
      const port = forward.value.host;
      const first = seen.get(port);
      if (port === 0) continue;
      if (first === undefined) {
        seen.set(port, { vm, forward });
        continue;
      }
      findings.error({
        code: 'duplicate',
        message: `port ${port} of this host is forwarded twice`,
        span: forward.span,
        labels: [{ span: first.forward.span, text: `first forwarded here, to "${first.vm.name.value}"` }],
        hint: 'take another port, or 0 for a free one',
      });
    }
  }
}

function checkVnics(vms: readonly VmDefinition[], findings: Findings): void {
  const seen = new Map<string, VmDefinition>();
  for (const vm of vms) {
    if (vm.network?.value.kind !== 'vnic') continue;
    const { value: name, span } = vm.network.value.vnic;
    const first = seen.get(name);
    if (first === undefined) {
      seen.set(name, vm);
      continue;
    }
    findings.error({
      code: 'duplicate',
      message: `two VMs have the VNIC "${name}"`,
      span,
      labels:
        first.network === undefined ? [] : [{ span: first.network.span, text: `first that of "${first.name.value}"` }],
      hint: 'give every VM a VNIC of its own',
    });
  }
}

function checkDependencies({ vms, complete }: DeclaredVms, findings: Findings): void {
  const declared = declarationsByName(vms);
  for (const vm of vms) {
    for (const dependency of vm.dependsOn) {
      if (!complete || declared.has(dependency.value)) continue;
      const others = [...declared].flatMap(([name, owner]) => (owner === vm ? [] : [name]));
      findings.error({
        code: 'unknown-vm',
        message: `no VM is called "${dependency.value}"`,
        span: dependency.span,
        hint: didYouMean(dependency.value, others, '"'),
      });
    }
  }
  for (const cycle of findCycles(vms)) {
    const [first, ...rest] = cycle;
    if (first === undefined) continue;
    const path = [...cycle.map((step) => step.from), first.from].join(' → ');
    findings.error({
      code: 'cycle',
      message: rest.length === 0 ? `"${first.from}" depends on itself` : `these VMs wait for each other: ${path}`,
      span: first.place,
      ...(rest.length === 0 ? {} : { label: `"${first.from}" waits for "${first.to}"` }),
      labels: rest.map((step) => ({ span: step.place, text: `"${step.from}" waits for "${step.to}"` })),
      hint: rest.length === 0 ? 'leave the name out' : 'leave one of these dependencies out',
    });
  }
}
