// What a fresh machine lacks: npm packages, QEMU, tools of the tests. Plain Node, because nothing is installed yet.
import { execFileSync, spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** The exit code for "this host cannot do it", as in the command line. */
const HOST_UNSUPPORTED = 4;

/** How each package manager is called, and what it calls the packages that provide a program. */
const MANAGERS = {
  'apt-get': {
    refresh: ['apt-get', 'update', '-qq'],
    install: ['apt-get', 'install', '-y', '-qq', '--no-install-recommends'],
    packages: {
      'qemu-system-x86_64': ['qemu-system-x86', 'ipxe-qemu'],
      'qemu-img': ['qemu-utils'],
      ssh: ['openssh-client'],
      xorriso: ['xorriso'],
      isoinfo: ['genisoimage'],
      sshd: ['openssh-server'],
      dropbear: ['dropbear-bin'],
      tmux: ['tmux'],
      ip: ['iproute2'],
      dnsmasq: ['dnsmasq-base'],
      zsh: ['zsh'],
      fish: ['fish'],
      mmdebstrap: ['mmdebstrap'],
      zstd: ['zstd'],
      curl: ['curl'],
      xz: ['xz-utils'],
      bzip2: ['bzip2'],
      'docker-registry': ['docker-registry'],
    },
  },
  dnf: {
    install: ['dnf', 'install', '-y'],
    packages: {
      'qemu-system-x86_64': ['qemu-system-x86-core'],
      'qemu-img': ['qemu-img'],
      ssh: ['openssh-clients'],
    },
  },
  pacman: {
    install: ['pacman', '-S', '--needed', '--noconfirm'],
    packages: { 'qemu-system-x86_64': ['qemu-base'], 'qemu-img': ['qemu-img'], ssh: ['openssh'] },
  },
  zypper: {
    install: ['zypper', '--non-interactive', 'install'],
    packages: { 'qemu-system-x86_64': ['qemu-x86'], 'qemu-img': ['qemu-tools'], ssh: ['openssh-clients'] },
  },
  apk: {
    install: ['apk', 'add'],
    packages: {
      'qemu-system-x86_64': ['qemu-system-x86_64'],
      'qemu-img': ['qemu-img'],
      ssh: ['openssh-client'],
    },
  },
  brew: {
    install: ['brew', 'install'],
    withoutRoot: true,
    packages: { 'qemu-system-x86_64': ['qemu'], 'qemu-img': ['qemu'], ssh: [] },
  },
};

/** Debian starts a server as soon as it is installed. The tests start their own, and this one would keep port 5000. */
const UNWANTED_SERVICES = ['docker-registry'];

export function say(text) {
  process.stderr.write(`==> ${text}\n`);
}

/** Ends the script: this host cannot do it. */
export function giveUp(text) {
  process.stderr.write(`${text}\n`);
  process.exit(HOST_UNSUPPORTED);
}

/** Runs a command with its output on stderr; throws when it fails. */
export function run(command, args, options = {}) {
  execFileSync(command, args, { cwd: root, stdio: ['inherit', 2, 2], ...options });
}

export function hasProgram(name) {
  // Servers such as sshd live where a user's PATH does not lead.
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return folders.some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** True on Debian, Ubuntu and their like, where guests can be built from the distribution's own packages. */
export function buildsGuests() {
  return process.platform === 'linux' && hasProgram('apt-get') && hasProgram('dpkg-deb');
}

/** `npm ci`, unless node_modules is what the lock file says. */
export function ensureNodePackages() {
  const installed = join(root, 'node_modules', '.package-lock.json');
  const fresh =
    existsSync(installed) && statSync(installed).mtimeMs >= statSync(join(root, 'package-lock.json')).mtimeMs;
  if (fresh) return;
  say('installing npm packages: npm ci');
  run('npm', ['ci', '--no-progress', '--loglevel=error']);
}

/** Installs the packages that provide these programs, when they are missing. */
export function ensurePrograms(programs) {
  const missing = programs.filter((program) => !hasProgram(program));
  if (missing.length === 0) return;
  const manager = findManager();
  if (manager === null) giveUp(`Not installed: ${missing.join(', ')}. Install them, and run this again.`);
  const packages = new Set();
  for (const program of missing) {
    const names = MANAGERS[manager].packages[program];
    if (names === undefined) giveUp(`Not installed: ${program}. vmctl does not know its package for ${manager}.`);
    for (const name of names) packages.add(name);
  }
  installPackages(manager, [...packages], `${missing.join(', ')} not found`);
}

/** Installs Debian packages by their own names, when they are missing; `reason` says what for. */
export function ensureDebianPackages(names, reason) {
  const missing = names.filter((name) => {
    const status = spawnSync('dpkg-query', ['-W', '-f=${Status}', name], { encoding: 'utf8' });
    return status.status !== 0 || !status.stdout.endsWith('ok installed');
  });
  if (missing.length > 0) installPackages('apt-get', missing, reason);
}

function installPackages(manager, packages, reason) {
  const { refresh, install, withoutRoot = false } = MANAGERS[manager];
  const prefix = withoutRoot || process.getuid?.() === 0 ? [] : sudo();
  const commands = [refresh, [...install, ...packages]].filter((command) => command !== undefined);
  const shown = commands.map((command) => [...(prefix ?? ['sudo']), ...command].join(' ')).join(' && ');
  if (prefix === null) giveUp(`${reason}. Install with:\n\n    ${shown}\n`);
  say(`${reason}; installing: ${shown}`);
  for (const command of commands) {
    const [program, ...args] = [...prefix, ...command];
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    const { status } = spawnSync(program, args, { stdio: ['inherit', 2, 2], env });
    // A list that cannot be refreshed is no reason to give up: the packages may be installable all the same.
    if (status !== 0 && command !== refresh)
      giveUp(`That failed. Install by hand, and run this again:\n\n    ${shown}\n`);
  }
  if (!existsSync('/run/systemd/system')) return;
  for (const name of UNWANTED_SERVICES.filter((service) => packages.includes(service))) {
    const [program, ...args] = [...prefix, 'systemctl', 'disable', '--now', name];
    spawnSync(program, args, { stdio: ['ignore', 2, 2] });
  }
}

/** How to become root without a question that nobody can answer; null when there is no way. */
function sudo() {
  if (!hasProgram('sudo')) return null;
  if (process.stdin.isTTY) return ['sudo'];
  return spawnSync('sudo', ['-n', 'true'], { stdio: 'ignore' }).status === 0 ? ['sudo', '-n'] : null;
}

function findManager() {
  return Object.keys(MANAGERS).find(hasProgram) ?? null;
}

/** Builds a guest image from packages, unless it is in the cache; gives its path. `kernel`: more words for its kernel. */
export function buildGuest(name, { kernel = '' } = {}) {
  const script = join(root, 'test', 'guest', 'build.sh');
  const env = { ...process.env, VMCTL_GUEST_KERNEL: kernel };
  const needs = execFileSync(script, ['--needs', name], { encoding: 'utf8' }).trim().split(/\s+/);
  ensureDebianPackages(
    needs.filter((word) => word !== ''),
    'needed to build the guest',
  );
  return execFileSync(script, [name], { encoding: 'utf8', env, stdio: ['ignore', 'pipe', 2] }).trim();
}
