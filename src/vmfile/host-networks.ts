/** Which kinds of `network` a VM can be given: a matter of what runs it. */
import type { NetworkDeclaration, VmDefinition } from '../model/definition.js';
import type { BackendKind } from '../model/vm.js';
import type { Findings } from './diagnostic.js';

interface Obstacle {
  readonly message: string;
  /** What to use. */
  readonly hint: string;
}

const VNIC = 'use `network "vnic" name="vmctl0"`, or `network "none"`';

const VNICS = 'VMs whose VNICs stand on one etherstub share a network: name it in the setting propolis.link';

/** What runs new VMs where nobody says: on illumos it is Propolis. */
export function usualBackend(platform: NodeJS.Platform = process.platform): BackendKind {
  return platform === 'sunos' ? 'propolis' : 'qemu';
}

function obstacleTo(kind: NetworkDeclaration['kind'], backend: BackendKind): Obstacle | null {
  if (backend === 'propolis') {
    if (kind === 'user')
      return { message: 'network "user" needs QEMU, and VMs on illumos run on Propolis', hint: VNIC };
    if (kind === 'tap') return { message: 'network "tap" needs a bridge of Linux', hint: VNIC };
    return null;
  }
  // Noop connects nothing, and so minds nothing.
  if (kind !== 'vnic' || backend === 'noop') return null;
  return { message: 'network "vnic" needs Propolis, which runs on illumos', hint: 'use `network "user"`' };
}

/** Reports a network that a VM cannot be given; says whether it did. A VM without the node has `network "user"`. */
export function reportForeignNetwork(vm: VmDefinition, backend: BackendKind, findings: Findings): boolean {
  const network = vm.network?.value;
  const obstacle = obstacleTo(network?.kind ?? 'user', backend);
  if (obstacle === null) return false;
  findings.error({ code: 'unsupported', span: vm.network?.span ?? vm.name.span, ...obstacle });
  if (network?.kind === 'user' && network.lan !== undefined) {
    const message = '`lan` is a network of QEMU’s own, and VMs on illumos run on Propolis';
    findings.error({ code: 'unsupported', span: network.lan.span, message, hint: VNICS });
  }
  return true;
}
