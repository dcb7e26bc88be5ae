/**
 * What propolis-server is asked to make of a VM, as a pure function. Only what every version of its API has is used, so
 * the same request is valid from version 1.0.0 on.
 */
import { VmctlError } from '../../errors.js';
import type { VmSpec } from '../../model/spec.js';

/** The kernel's `VM_MAXCPU`. */
export const MAX_VCPUS = 32;

interface PciPath {
  readonly bus: number;
  readonly device: number;
  readonly function: number;
}

type Component =
  | { readonly type: 'virtio_disk'; readonly component: { readonly backend_id: string; readonly pci_path: PciPath } }
  | {
      readonly type: 'virtio_nic';
      readonly component: {
        readonly backend_id: string;
        readonly interface_id: string;
        readonly pci_path: PciPath;
      };
    }
  | {
      readonly type: 'file_storage_backend';
      readonly component: { readonly path: string; readonly readonly: boolean; readonly block_size: number };
    }
  | { readonly type: 'virtio_network_backend'; readonly component: { readonly vnic_name: string } }
  | { readonly type: 'serial_port'; readonly component: { readonly num: 'com1' | 'com2' | 'com3' | 'com4' } }
  | { readonly type: 'boot_settings'; readonly component: { readonly order: readonly { readonly id: string }[] } };

/** The body of `PUT /instance`. */
export interface EnsureRequest {
  readonly properties: {
    readonly id: string;
    readonly name: string;
    readonly description: string;
    readonly metadata: {
      readonly silo_id: string;
      readonly project_id: string;
      readonly sled_id: string;
      readonly sled_serial: string;
      readonly sled_revision: number;
      readonly sled_model: string;
    };
  };
  readonly init: {
    readonly method: 'Spec';
    readonly value: {
      readonly spec: {
        readonly board: {
          readonly cpus: number;
          readonly memory_mb: number;
          readonly chipset: { readonly type: 'i440_fx'; readonly value: { readonly enable_pcie: boolean } };
        };
        readonly components: Readonly<Record<string, Component>>;
      };
    };
  };
}

/** What the VM stands on at this host. */
export interface InstanceParts {
  /** Also the VM's name in the kernel: `/dev/vmm/<uuid>`. */
  readonly uuid: string;
  /** The raw device of the VM's disk. */
  readonly disk: string;
  /** Null where nothing is told to the guest. */
  readonly seed: string | null;
  /** Null where the VM has no network card. */
  readonly vnic: string | null;
}

const NIL = '00000000-0000-0000-0000-000000000000';
const BLOCK_BYTES = 512;

/** The host bridge, the LPC bridge and power management are in slots 0 and 1, which nobody checks. */
const SLOT = { nic: 8, disk: 16, seed: 24 } as const;

const at = (device: number): PciPath => ({ bus: 0, device, function: 0 });

/** The request for a VM. Throws `UNSUPPORTED` for what the kernel cannot give to a guest. */
export function ensureRequest(spec: VmSpec, { uuid, disk, seed, vnic }: InstanceParts): EnsureRequest {
  checkSize(spec);
  return {
    properties: {
      id: uuid,
      name: spec.name,
      description: 'managed by vmctl',
      // Labels for the metrics of a rack, which have to be there.
      metadata: {
        silo_id: NIL,
        project_id: NIL,
        sled_id: NIL,
        sled_serial: 'vmctl',
        sled_revision: 0,
        sled_model: 'vmctl',
      },
    },
    init: {
      method: 'Spec',
      value: {
        spec: {
          board: {
            cpus: spec.vcpus,
            memory_mb: spec.memoryMib,
            chipset: { type: 'i440_fx', value: { enable_pcie: false } },
          },
          components: {
            ...diskOf('boot-disk', { path: disk, slot: SLOT.disk, readonly: false }),
            ...(seed === null ? {} : diskOf('cloud-init', { path: seed, slot: SLOT.seed, readonly: true })),
            ...(vnic === null ? {} : nicOf(vnic)),
            // The first port must be there, and all four make the guest's tables the same everywhere.
            com1: { type: 'serial_port', component: { num: 'com1' } },
            com2: { type: 'serial_port', component: { num: 'com2' } },
            com3: { type: 'serial_port', component: { num: 'com3' } },
            com4: { type: 'serial_port', component: { num: 'com4' } },
            'boot-settings': { type: 'boot_settings', component: { order: [{ id: 'boot-disk' }] } },
          },
        },
      },
    },
  };
}

/** Throws `UNSUPPORTED` for a VM that is larger than the kernel makes one. */
export function checkSize({ name, vcpus }: VmSpec): void {
  if (vcpus <= MAX_VCPUS) return;
  throw new VmctlError('UNSUPPORTED', `VM "${name}": ${vcpus} vCPUs are more than the ${MAX_VCPUS} of bhyve`, {
    hint: `Set "vcpus" to ${MAX_VCPUS} or less.`,
    fields: { vm: name, vcpus },
  });
}

function diskOf(
  key: string,
  { path, slot, readonly }: { readonly path: string; readonly slot: number; readonly readonly: boolean },
): Readonly<Record<string, Component>> {
  return {
    [key]: { type: 'virtio_disk', component: { backend_id: `${key}-backend`, pci_path: at(slot) } },
    [`${key}-backend`]: { type: 'file_storage_backend', component: { path, readonly, block_size: BLOCK_BYTES } },
  };
}

function nicOf(vnic: string): Readonly<Record<string, Component>> {
  return {
    net0: {
      type: 'virtio_nic',
      component: { backend_id: 'net0-backend', interface_id: NIL, pci_path: at(SLOT.nic) },
    },
    'net0-backend': { type: 'virtio_network_backend', component: { vnic_name: vnic } },
  };
}
