/** What propolis-server finds wrong with an instance spec, in its words. */

interface Component {
  readonly type: string;
  readonly component: {
    readonly backend_id?: string;
    readonly pci_path?: { readonly bus: number; readonly device: number; readonly function: number };
    readonly path?: string;
    readonly vnic_name?: string;
    readonly num?: string;
    readonly order?: readonly { readonly id: string }[];
  };
}

export type Components = Readonly<Record<string, Component>>;

const DISKS = ['virtio_disk', 'nvme_disk'];

/** Why it is no spec at all: 400 with this reason. Null for a good one. */
export function specProblem(components: Components): string | null {
  const all = Object.entries(components);
  const devices = all.filter(([, { component }]) => component.backend_id !== undefined);
  for (const [key, { type, component }] of devices) {
    const backend = component.backend_id ?? '';
    if (components[backend] !== undefined) continue;
    const kind = DISKS.includes(type) ? 'storage' : 'network';
    return `${kind} backend ${backend} not found for device ${key}`;
  }
  const slots = new Set<string>();
  for (const [, { component }] of devices) {
    if (component.pci_path === undefined) continue;
    const { bus, device, function: one } = component.pci_path;
    const slot = `PciPath { bus: ${bus}, device: ${device}, function: ${one} }`;
    if (slots.has(slot)) return `a PCI device is already attached at ${slot}`;
    slots.add(slot);
  }
  for (const { id } of components['boot-settings']?.component.order ?? []) {
    if (!DISKS.includes(components[id]?.type ?? '')) return `boot option ${id} is not an attached device`;
  }
  const used = new Set(devices.map(([, { component }]) => component.backend_id));
  const idle = all.find(([key, { type }]) => type.endsWith('_backend') && !used.has(key));
  return idle === undefined ? null : `backend ${idle[0]} not used by any device`;
}

/** Why nothing can be made of a good spec: 500 without a reason, which only the log has. Null where it can. */
export function makingProblem(components: Components, exists: (path: string) => boolean): string | null {
  const all = Object.values(components);
  if (!all.some(({ component }) => component.num === 'com1')) {
    return "thread 'vm_ensure' panicked: called `Option::unwrap()` on a `None` value";
  }
  const paths = all.flatMap(({ component }) => (component.path === undefined ? [] : [component.path]));
  const missing = paths.find((path) => !exists(path));
  if (missing !== undefined) return `failed to create file backend: ${missing}: No such file or directory (os error 2)`;
  const vnics = all.flatMap(({ component }) => (component.vnic_name === undefined ? [] : [component.vnic_name]));
  const noVnic = vnics.find((name) => !exists(name));
  return noVnic === undefined ? null : `failed to create viona: ${noVnic}: No such device or address (os error 6)`;
}
