/** The virtual network card of a VM. It is made for a start, with the VM's MAC address, and goes at its end. */
import { VmctlError } from '../../errors.js';
import { type Vnic, linesOf, parseVnics } from './delimited.js';
import { type HostRunner, unless } from './host-runner.js';

export interface WantedVnic {
  readonly name: string;
  readonly mac: string;
  /** The link that it is to stand on; null takes the first physical one. */
  readonly over: string | null;
}

/** The card of that name; null when there is none. */
export async function findVnic(name: string, host: HostRunner, signal?: AbortSignal): Promise<Vnic | null> {
  const { stdout } = await host
    .look(['dladm', 'show-vnic', '-p', '-o', 'link,over,macaddress', name], signal)
    .catch(unless(/object not found/, { stdout: '', stderr: '' }));
  return parseVnics(stdout)[0] ?? null;
}

/** Throws `HOST_UNSUPPORTED` where the name is taken by a card that was not made for this VM. Changes nothing. */
export async function checkVnic(
  { name, mac }: WantedVnic,
  host: HostRunner,
  signal?: AbortSignal,
): Promise<Vnic | null> {
  const there = await findVnic(name, host, signal);
  if (there === null || there.mac === mac) return there;
  throw new VmctlError('HOST_UNSUPPORTED', `the VNIC ${name} is there already and is not this VM's`, {
    hint: `Take another name in network "vnic", or remove it: pfexec dladm delete-vnic ${name}`,
    fields: { vnic: name, mac: there.mac },
  });
}

/** Makes the card, or takes the one that was made for this VM before. Temporary: it does not outlive a restart of the host. */
export async function attachVnic(wanted: WantedVnic, host: HostRunner, signal?: AbortSignal): Promise<void> {
  const { name, mac } = wanted;
  if ((await checkVnic(wanted, host, signal)) !== null) return;
  const over = wanted.over ?? (await firstLink(host, signal));
  await host.change(['dladm', 'create-vnic', '-t', '-l', over, '-m', mac, name], signal);
  const made = await findVnic(name, host, signal);
  if (made?.mac === mac) return;
  throw new VmctlError(
    'COMMAND_FAILED',
    `dladm made the VNIC ${name}, and ${made === null ? 'it is not there' : `it has the MAC address ${made.mac}`}`,
    {
      hint: 'Look at it with: dladm show-vnic',
      fields: { vnic: name },
    },
  );
}

/** Removes the card if it was made for this VM. */
export async function removeVnic({ name, mac }: Pick<WantedVnic, 'name' | 'mac'>, host: HostRunner): Promise<void> {
  const there = await findVnic(name, host);
  if (there?.mac !== mac) return;
  await host.change(['dladm', 'delete-vnic', name]).catch(unless(/object not found/, null));
}

async function firstLink(host: HostRunner, signal?: AbortSignal): Promise<string> {
  const [link] = linesOf((await host.look(['dladm', 'show-phys', '-p', '-o', 'link'], signal)).stdout);
  if (link !== undefined) return link;
  throw new VmctlError('HOST_UNSUPPORTED', 'this host has no physical network link to put a VNIC on', {
    hint: 'Name another one, such as an etherstub, in the setting propolis.link.',
  });
}
