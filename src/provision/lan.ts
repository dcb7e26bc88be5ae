/**
 * A guest's place on its LAN, seen to over SSH before anything is provisioned: the names of all members in its hosts
 * file, and its own address.
 *
 * Names are not in the seed, because the members of a LAN change while a guest stays what it is, and because this works
 * in the same way whoever wrote the user-data, and without cloud-init. Each line ends in a mark of ours, so that the
 * next time replaces these lines and no others. Where cloud-init makes the hosts file at every boot, the file says
 * which template it is made from, and the template gets the lines as well.
 */
import { VmctlError } from '../errors.js';
import type { StageContext } from '../model/event.js';
import type { LanIdentity } from '../model/lan.js';
import type { SshConnection } from '../ssh/client.js';
import { shellQuote } from '../ssh/shell-quote.js';
import { AS_ROOT } from './as-root.js';

/** Who gives the card its address: vmctl's seed; the user's own network-config; or nobody, and so vmctl over SSH. */
export type CardSource = 'seed' | 'own' | 'nobody';

export interface LanMembership {
  /** The VM's name, for messages. */
  readonly name: string;
  readonly lan: string;
  readonly identity: LanIdentity;
  readonly card: CardSource;
}

const MARK = '# vmctl lan';
/** How long a card that the seed speaks of may take to get its address, after SSH has answered. */
const PATIENCE_SECONDS = 10;

/** Throws `PROVISION_FAILED` where the guest lets us write no names, or its card could be given no address. */
export async function joinLan(
  connection: SshConnection,
  membership: LanMembership,
  { signal, reporter }: StageContext,
): Promise<void> {
  const { name, lan, identity, card } = membership;
  reporter.status(`names of LAN "${lan}"`);
  const output = { stdout: '', stderr: '' };
  const { exitCode } = await connection.exec(AS_ROOT, {
    stdin: lanScript(identity, card),
    onStdout: (chunk) => (output.stdout += chunk.toString('utf8')),
    onStderr: (chunk) => (output.stderr += chunk.toString('utf8')),
    signal,
  });
  const found = output.stdout.trim();
  if (exitCode !== 0) {
    const words = output.stderr.trim().split('\n').at(-1) ?? '';
    throw new VmctlError('PROVISION_FAILED', `VM "${name}" could not be told the names of LAN "${lan}": ${words}`, {
      hint: 'Its `ssh` user has to be root, or to become root by `sudo -n` (without a password).',
      ...(output.stderr === '' ? {} : { details: output.stderr.trimEnd() }),
      fields: { vm: name, lan, exitCode },
    });
  }
  const wish = `${identity.address}/${identity.prefixLength} on the card ${identity.mac}`;
  if (found === 'missing' && card !== 'own') {
    throw new VmctlError('PROVISION_FAILED', `VM "${name}" did not take its address on LAN "${lan}": ${wish}`, {
      hint: `See what it has: vmctl exec ${name} -- ip addr`,
      fields: { vm: name, lan, address: identity.address },
    });
  }
  const note = noteOn(found, card, wish);
  if (note !== null) reporter.log(`LAN "${lan}": ${note}`);
}

function noteOn(found: string, card: CardSource, wish: string): string | null {
  if (found === 'unknown') return 'its address is not checked: the guest has no `ip`';
  if (found === 'missing') return `the network-config does not make ${wish}, which the other VMs are told`;
  // Without cloud-init it is set each time, which is what was to be expected.
  return found === 'set' && card === 'seed' ? `cloud-init did not make ${wish}; it is set until the next boot` : null;
}

/**
 * The script that a root shell of the guest reads. It says `there`, `set`, `missing` or `unknown` of the address. `etc`
 * stands for `/etc`.
 */
export function lanScript({ mac, address, prefixLength, hosts }: LanIdentity, card: CardSource, etc = '/etc'): string {
  const lines = hosts.map((line) => `${line} ${MARK}`).join('\n');
  return `
set -e
PATH=$PATH:/usr/sbin:/sbin
lines=${shellQuote(lines)}
etc=${shellQuote(etc)}

# In place: the file keeps its mode, its owner and its security label.
put() {
  text=$(if [ -f "$1" ]; then grep -v '${MARK}$' "$1" || true; fi; printf '%s\\n' "$lines")
  [ "$text" != "$(cat "$1" 2>/dev/null)" ] || return 0
  printf '%s\\n' "$text" >"$1"
  # A power cut must not take it back.
  sync "$1" 2>/dev/null || true
}

put "$etc/hosts"
template=$(sed -n 's|.*/etc/\\(cloud/templates/hosts\\.[a-z]*\\.tmpl\\).*|\\1|p' "$etc/hosts" | head -n 1)
[ -z "$template" ] || [ ! -f "$etc/$template" ] || put "$etc/$template"

command -v ip >/dev/null || { echo unknown; exit; }
has_address() { ip -4 -o addr show | grep -qF ${shellQuote(` ${address}/`)}; }
card=
for path in /sys/class/net/*; do
  [ "$(cat "$path/address" 2>/dev/null)" != ${shellQuote(mac)} ] || card=\${path##*/}
done
tries=${card === 'seed' ? PATIENCE_SECONDS : 0}
while ! has_address && [ "$tries" -gt 0 ]; do
  sleep 1
  tries=$((tries - 1))
done
if has_address; then echo there
elif [ -z "$card" ] || [ ${card} = own ]; then echo missing
elif ip link set dev "$card" up && ip addr add ${shellQuote(`${address}/${prefixLength}`)} broadcast + dev "$card"; then echo set
else echo missing
fi
`;
}
