/**
 * The program that makes a guest another machine: a text for `sh` as root, and nothing but that. It needs POSIX and what
 * every guest has, coreutils or busybox. Whatever is so already it leaves alone, so it can be run again after it was
 * interrupted anywhere; and it is read whole before it begins, so that a connection that breaks off does not cut it.
 * It starts few programs, each of which takes an emulated guest some 40 ms: small files are read and written by the
 * shell, whose printf has to be its own, because a private key passes through it.
 */
import type { KeyPair } from '../model/vm.js';
import { LAN_PREFIX_LENGTH, lanMac } from '../model/lan.js';
import { shellQuote } from '../ssh/shell-quote.js';

/** What makes a guest another machine than the one that it is a copy of. */
export interface Identity {
  /** Before its first dot the host's short name. */
  readonly hostname: string;
  /** 32 hexadecimal digits in lower case (machine-id(5)). */
  readonly machineId: string;
  /** Null for a guest whose network card is left alone. */
  readonly mac: string | null;
  /** An IPv4 address; null for a guest that is on no LAN, or whose place on it is left alone. */
  readonly lanAddress: string | null;
  readonly hostKey: KeyPair;
}

/** What the guest calls itself until then. */
export interface FormerIdentity {
  /** Null where that is not known: then it is what the guest says. */
  readonly hostname: string | null;
  readonly mac: string | null;
  readonly lanAddress: string | null;
}

/** The text for `sh`. It has the private key in it, and so has no place on a command line. */
export function identityScript(identity: Identity, former: FormerIdentity): string {
  const { hostname, machineId, hostKey } = identity;
  const values = {
    name: hostname,
    short: label(hostname),
    former_name: former.hostname ?? '',
    machine_id: machineId,
    public_key: hostKey.publicKey,
    private_key: hostKey.privateKey.trimEnd(),
  };
  const set = Object.entries(values).map(([name, value]) => `${name}=${shellQuote(value)}`);
  const cards = cardChanges(identity, former);
  const readdress = cards.length === 0 ? [] : [READDRESS, ...cards.map(cardPart)];
  const parts = ['set_hostname', 'set_machine_id', ...cards.map(({ name }) => `set_${name}`), 'set_host_key'];
  return [...set, COMMON, HOSTNAME, MACHINE_ID, ...readdress, HOST_KEY, `\n{ ${parts.join('; ')}; exit; }`, ''].join(
    '\n',
  );
}

/** A card that gets another MAC address, and on a LAN another IPv4 address. */
interface CardChange {
  readonly name: 'lan' | 'outside';
  readonly mac: string;
  readonly former: string;
  readonly address: { readonly own: string; readonly former: string } | null;
}

/** That of the LAN first: a network manager then reads its files again, while those of the other card are as they were. */
function cardChanges({ mac, lanAddress }: Identity, former: FormerIdentity): readonly CardChange[] {
  const changes: CardChange[] = [];
  if (lanAddress !== null && former.lanAddress !== null && lanAddress !== former.lanAddress) {
    const address = { own: lanAddress, former: former.lanAddress };
    changes.push({ name: 'lan', mac: lanMac(address.own), former: lanMac(address.former), address });
  }
  if (mac !== null && former.mac !== null && mac !== former.mac) {
    changes.push({ name: 'outside', mac, former: former.mac, address: null });
  }
  return changes;
}

function label(hostname: string): string {
  return hostname.split('.', 1).join('');
}

const COMMON = `
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
umask 022
set -e
trap '' HUP PIPE
newline='
'

fail() { echo "$*" >&2; exit 1; }

# read_file FILE: sets text to what it has, with a newline at its end; empty where it is not there.
read_file() {
  text= line=
  [ -f "$1" ] || return 0
  while IFS= read -r line || [ -n "$line" ]; do text=$text$line$newline; done <"$1"
}

# write_file FILE UMASK TEXT: the text and a newline become the file.
write_file() {
  (umask "$2" && printf '%s\\n' "$3" >"$1.vmctl-new") && mv -f "$1.vmctl-new" "$1" || fail "cannot write $1"
}

# put FILE UMASK TEXT: the same, unless it is that already.
put() {
  read_file "$1"
  [ "$text" = "$3$newline" ] || write_file "$@"
}

# process FILE NAME: the process whose number the file has, if it is of that name.
process() {
  [ -s "$1" ] && read -r pid <"$1" && read_file "/proc/$pid/comm" && [ "$text" = "$2$newline" ]
}`;

/** A name with dots in it stays one: some systems keep the whole name, most the short one. */
const HOSTNAME = `
set_hostname() {
  read_file /proc/sys/kernel/hostname
  [ -n "$former_name" ] || former_name=\${text%"$newline"}
  given=$short
  read_file /etc/hostname
  case $text in *.*) given=$name ;; esac
  put /etc/hostname 022 "$given"
  echo "$given" >/proc/sys/kernel/hostname || fail "cannot set the hostname"
  [ -e /etc/hosts ] || : >/etc/hosts
  # The file may be long: it comes back only if something is to change in it.
  hosts=$(awk -v from="$former_name" -v from_short="\${former_name%%.*}" -v to="$name" -v to_short="$short" '
    BEGIN { names = to == to_short ? to : to " " to_short }
    /^[ \\t]*(127\\.|::1)/ {
      line = $1
      renamed = 0
      for (i = 2; i <= NF && $i !~ /^#/; i++) {
        if ($i == to_short) known = 1
        if ($i != from && $i != from_short) line = line " " $i
        else if (!renamed++) line = line " " names
      }
      for (; i <= NF; i++) line = line " " $i
      if (renamed) known = 1
      if (renamed && $0 != line) { $0 = line; changed = 1 }
    }
    { lines[++count] = $0 }
    END {
      if (!known) lines[++count] = "127.0.1.1 " names
      if (changed || !known) for (i = 1; i <= count; i++) print lines[i]
    }
  ' /etc/hosts)
  [ -z "$hosts" ] || write_file /etc/hosts 022 "$hosts"
}`;

/** systemd and D-Bus read it; a guest that has none needs none. The journal is kept in a folder of that name. */
const MACHINE_ID = `
set_machine_id() {
  for file in /etc/machine-id /var/lib/dbus/machine-id; do
    [ -f "$file" ] && [ ! -L "$file" ] || continue
    read_file "$file"
    if [ "$text" != "$machine_id$newline" ]; then
      write_file "$file" 222 "$machine_id"
      changed=yes
    fi
  done
  [ -n "\${changed:-}" ] && [ -d /run/systemd/system ] || return 0
  systemctl --no-block try-restart systemd-journald.service || :
}`;

/** Where a guest's configuration names its cards. */
const READDRESS = `
networkd='/etc/systemd/network /run/systemd/network'
others='/etc/netplan /run/netplan /etc/network /etc/NetworkManager/system-connections
  /run/NetworkManager/system-connections /etc/sysconfig/network-scripts /etc/udev/rules.d'

# rewrite FILE SED-ARGUMENT...
rewrite() {
  file=$1
  shift
  cp -p "$file" "$file.vmctl-new" && sed "$@" "$file" >"$file.vmctl-new" && mv -f "$file.vmctl-new" "$file" ||
    fail "cannot write $file"
}

# mentioning TEXT FOLDER...: the files there with that text, in whatever case.
mentioning() {
  mention=$1 folders=
  shift
  for folder; do [ ! -d "$folder" ] || folders="$folders $folder"; done
  [ -n "$folders" ] || return 0
  # All of them first: what is rewritten is not to be found again.
  found=$(grep -rliF "$mention" $folders || :)
  [ -z "$found" ] || printf '%s\\n' "$found"
}

# readdress FORMER PATTERN OWN REPLACEMENT FOLDER...: MAC addresses, in the files that do not know the new one yet.
readdress() {
  former=$1 pattern=$2 own=$3 replacement=$4
  shift 4
  mentioning "$former" "$@" | while IFS= read -r file; do
    grep -qiF "$own" "$file" || rewrite "$file" "s/$pattern/$replacement/g"
  done
}`;

/**
 * The address of a card, and the files that know the card by it: else its configuration would find no card after the
 * next start. Until then a driver still tells the former one as the permanent one, so systemd's files, which may be read
 * again at any time, get both. The host's side learns the new address from what the guest sends unasked (`arp_notify`,
 * ip-sysctl).
 */
function cardPart({ name, mac, former, address }: CardChange): string {
  const pattern = former.toLowerCase().replaceAll(/[a-f]/g, (digit) => `[${digit}${digit.toUpperCase()}]`);
  return `
set_${name}() {
  readdress ${former} '${pattern}' ${mac} '${mac} ${former}' $networkd
  readdress ${former} '${pattern}' ${mac} ${mac} $others${address === null ? '' : renumberFiles(address)}
  for card in /sys/class/net/*; do
    [ -e "$card/device" ] || continue
    read_file "$card/address" || continue
    case \${text%"$newline"} in ${former.toLowerCase()}) readdressed=yes ;; ${mac.toLowerCase()}) readdressed= ;; *) continue ;; esac
    card=\${card##*/}
    if [ -n "$readdressed" ]; then
      echo 1 >"/proc/sys/net/ipv4/conf/$card/arp_notify"
      ip link set dev "$card" address ${mac} || fail "cannot give $card the address ${mac}"
    fi${address === null ? '' : renumberCard(address)}
  done
}`;
}

interface Renumbering {
  readonly own: string;
  readonly former: string;
}

/** An address that is only the beginning of a longer one stays. networkd would put the former one back from its memory. */
function renumberFiles({ own, former }: Renumbering): string {
  const pattern = `(^|[^0-9.])${former.replaceAll('.', '[.]')}([^0-9]|$)`;
  return `
  mentioning ${former} $networkd $others | while IFS= read -r file; do
    rewrite "$file" -E 's/${pattern}/\\1${own}\\2/g'
  done
  if [ -d /run/systemd/system ] && systemctl --quiet is-active systemd-networkd.service; then
    networkctl reload || fail "systemd-networkd does not read its files again"
  fi`;
}

/** The cable is out meanwhile, so there may be no address any more, and networkd gives the new one when it is in. */
function renumberCard({ own, former }: Renumbering): string {
  return `
    ip link set dev "$card" up
    ip addr del ${former}/${LAN_PREFIX_LENGTH} dev "$card" 2>/dev/null || :
    ip addr replace ${own}/${LAN_PREFIX_LENGTH} broadcast + dev "$card" || fail "cannot give $card the address ${own}"`;
}

/**
 * OpenSSH executes itself anew on SIGHUP (sshd(8)); dropbear has to be started again. Connections that are there, this
 * one too, stay. Host keys of other types are those of all the copies, and go.
 */
const HOST_KEY = `
set_openssh_key() {
  key=/etc/ssh/ssh_host_ed25519_key
  named=$(sed -n 's/^[ \\t]*[Hh][Oo][Ss][Tt][Kk][Ee][Yy][ \\t][ \\t]*//p' /etc/ssh/sshd_config /etc/ssh/sshd_config.d/*.conf 2>/dev/null || :)
  case "$named" in '' | *$key*) ;; *) fail "sshd_config names other host keys than $key" ;; esac
  put $key 077 "$private_key"
  put $key.pub 022 "$public_key"
  set --
  for other in /etc/ssh/ssh_host_*; do
    case $other in $key | $key.pub) ;; *) set -- "$@" "$other" ;; esac
  done
  [ $# -eq 0 ] || rm -f "$@"
  sync
  if process /run/sshd.pid sshd; then kill -HUP "$pid"
  elif [ -d /run/systemd/system ]; then
    # Without a service there is a socket, and an sshd for each connection.
    for unit in ssh.service sshd.service; do
      ! systemctl --quiet is-active $unit || systemctl reload $unit
    done
  else fail "there is no /run/sshd.pid to tell which sshd is to read the new host key"
  fi
}

set_dropbear_key() {
  key=/etc/dropbear/dropbear_ed25519_host_key
  trap 'rm -f /run/vmctl-host-key*' EXIT
  (umask 077 && echo "$private_key" >/run/vmctl-host-key)
  dropbearconvert openssh dropbear /run/vmctl-host-key /run/vmctl-host-key.dropbear >/dev/null 2>&1 ||
    fail "dropbearconvert cannot read the new host key"
  # dropbearconvert succeeds on a full disk, too.
  [ -s /run/vmctl-host-key.dropbear ] && (umask 077 && cat /run/vmctl-host-key.dropbear >$key.vmctl-new) &&
    mv -f $key.vmctl-new $key || fail "cannot write $key"
  rm -f /etc/dropbear/dropbear_rsa_host_key /etc/dropbear/dropbear_ecdsa_host_key /etc/dropbear/dropbear_dss_host_key
  sync
  cat "/proc/$pid/cmdline" >/run/vmctl-dropbear
  kill "$pid"
  while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
  # One that stays in the foreground is started again by whoever looks after it.
  tr '\\0' '\\n' </run/vmctl-dropbear | grep -qx -e -F ||
    xargs -0 sh -c '"$@"' sh </run/vmctl-dropbear >/dev/null 2>>/var/log/dropbear.log ||
    fail "dropbear did not start again: $(tail -n1 /var/log/dropbear.log)"
  rm -f /run/vmctl-dropbear
}

set_host_key() {
  if process /run/dropbear.pid dropbear || process /var/run/dropbear.pid dropbear; then set_dropbear_key
  elif [ -d /etc/ssh ] && command -v sshd >/dev/null; then set_openssh_key
  else fail "it has neither OpenSSH nor dropbear"
  fi
}`;
