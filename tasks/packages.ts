/** What to type on this system to install what is missing. Pure. */

/** What vmctl may need from the system. */
export type Need = 'qemu' | 'qemu-img' | 'ssh' | 'zstd' | 'xz' | 'bzip2' | 'firmware';

/** Systems that share package names and a package manager. */
export type Family = 'debian' | 'fedora' | 'arch' | 'alpine' | 'suse' | 'macos' | 'unknown';

export interface System {
  readonly family: Family;
  /** Then no `sudo` is needed. */
  readonly isRoot: boolean;
}

interface Manager {
  readonly install: string;
  readonly sudo: boolean;
  readonly packages: Readonly<Record<Need, string>>;
}

const COMMON = { zstd: 'zstd', xz: 'xz', bzip2: 'bzip2' } as const;

const MANAGERS: Readonly<Record<Exclude<Family, 'unknown'>, Manager>> = {
  debian: {
    install: 'apt-get install',
    sudo: true,
    packages: {
      ...COMMON,
      qemu: 'qemu-system-x86',
      'qemu-img': 'qemu-utils',
      ssh: 'openssh-client',
      xz: 'xz-utils',
      firmware: 'ovmf',
    },
  },
  fedora: {
    install: 'dnf install',
    sudo: true,
    packages: {
      ...COMMON,
      qemu: 'qemu-system-x86-core',
      'qemu-img': 'qemu-img',
      ssh: 'openssh-clients',
      firmware: 'edk2-ovmf',
    },
  },
  arch: {
    install: 'pacman -S',
    sudo: true,
    packages: { ...COMMON, qemu: 'qemu-base', 'qemu-img': 'qemu-img', ssh: 'openssh', firmware: 'edk2-ovmf' },
  },
  alpine: {
    install: 'apk add',
    sudo: true,
    packages: {
      ...COMMON,
      qemu: 'qemu-system-x86_64',
      'qemu-img': 'qemu-img',
      ssh: 'openssh-client',
      firmware: 'ovmf',
    },
  },
  suse: {
    install: 'zypper install',
    sudo: true,
    packages: {
      ...COMMON,
      qemu: 'qemu-x86',
      'qemu-img': 'qemu-tools',
      ssh: 'openssh-clients',
      firmware: 'qemu-ovmf-x86_64',
    },
  },
  macos: {
    install: 'brew install',
    sudo: false,
    packages: { ...COMMON, qemu: 'qemu', 'qemu-img': 'qemu', ssh: 'openssh', firmware: 'qemu' },
  },
};

const IN_WORDS: Readonly<Record<Need, string>> = {
  qemu: 'QEMU for x86-64 (qemu-system-x86_64)',
  'qemu-img': 'qemu-img',
  ssh: "OpenSSH's client (ssh)",
  zstd: 'zstd',
  xz: 'xz',
  bzip2: 'bzip2',
  firmware: 'UEFI firmware for x86-64 (OVMF)',
};

/** One command that installs it all; a sentence where the system's package manager is not known. */
export function installStep(needs: readonly Need[], system: System): string {
  if (system.family === 'unknown') {
    return `Install ${needs.map((need) => IN_WORDS[need]).join(', ')} with your system's package manager.`;
  }
  const { install, sudo, packages } = MANAGERS[system.family];
  const names = [...new Set(needs.map((need) => packages[need]))];
  return [...(sudo && !system.isRoot ? ['sudo'] : []), install, ...names].join(' ');
}

/** The family by os-release(5), `ID` first and then each of `ID_LIKE`. */
export function familyOf(platform: NodeJS.Platform, osRelease: string | null): Family {
  if (platform === 'darwin') return 'macos';
  const value = (key: string) => new RegExp(`^${key}=["']?([^"'\\n]*)`, 'm').exec(osRelease ?? '')?.[1] ?? '';
  const ids = [value('ID'), ...value('ID_LIKE').split(' ')];
  // Red Hat's own distributions call themselves like Fedora, and have no package of a plain QEMU.
  if (ids.includes('rhel')) return 'unknown';
  for (const id of ids) {
    const family = FAMILIES.get(id);
    if (family !== undefined) return family;
  }
  return 'unknown';
}

const FAMILIES: ReadonlyMap<string, Family> = new Map([
  ['debian', 'debian'],
  ['ubuntu', 'debian'],
  ['fedora', 'fedora'],
  ['arch', 'arch'],
  ['alpine', 'alpine'],
  ['suse', 'suse'],
  ['opensuse', 'suse'],
]);
