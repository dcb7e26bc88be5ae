/** Which kinds of `network` a host can give to a VM: a matter of its operating system. */
import type { NetworkDeclaration, VmDefinition } from '../model/definition.js';
import type { Findings } from './diagnostic.js';

interface Obstacle {
  readonly message: string;
  /** What to use. */
  readonly hint: string;
}

const VNIC = 'use `network "vnic" name="vmctl0"`, or `network "none"`';

const VNICS = 'VNICs on one etherstub are a private network: dladm create-etherstub vmctl_lan0';

function obstacleTo(kind: NetworkDeclaration['kind'], platform: NodeJS.Platform): Obstacle | null {
  if (platform === 'sunos') {
    if (kind === 'user')
      return { message: 'network "user" needs QEMU, and VMs on illumos run on Propolis', hint: VNIC };
    if (kind === 'tap') return { message: 'network "tap" needs a bridge of Linux', hint: VNIC };
    return null;
  }
  if (kind !== 'vnic') return null;
  return { message: 'network "vnic" needs Propolis, which runs on illumos', hint: 'use `network "user"`' };
}

/** Reports a network that this host does not have; says whether it did. A VM without the node has `network "user"`. */
export function reportForeignNetwork(vm: VmDefinition, platform: NodeJS.Platform, findings: Findings): boolean {
  const network = vm.network?.value;
  const obstacle = obstacleTo(network?.kind ?? 'user', platform);
  if (obstacle === null) return false;
  findings.error({ code: 'unsupported', span: vm.network?.span ?? vm.name.span, ...obstacle });
  if (network?.kind === 'user' && network.lan !== undefined) {
    const message = '`lan` is a network of QEMU’s own, and VMs on illumos run on Propolis';
    findings.error({ code: 'unsupported', span: network.lan.span, message, hint: VNICS });
  }
  return true;
}
