/** The program that runs guests. */
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { delimiter, resolve } from 'node:path';
import { VmctlError } from '../../errors.js';

export interface BinaryOptions {
  /** A path or a name to look for in PATH; null takes the host architecture's. */
  readonly binary: string | null;
  /** The value of PATH. */
  readonly searchPath: string;
}

/** Absolute path of the QEMU that runs guests here. Throws `HOST_UNSUPPORTED` with what to install. */
export async function findBinary({ binary, searchPath }: BinaryOptions): Promise<string> {
  const name = binary ?? defaultBinary();
  const folders = name.includes('/') ? [''] : searchPath.split(delimiter);
  // Absolute, because QEMU is started in another directory than this one.
  for (const candidate of folders.map((folder) => resolve(folder, name))) {
    const executable = await access(candidate, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (executable) return candidate;
  }
  throw new VmctlError('HOST_UNSUPPORTED', `${name} was not found`, {
    hint: binary === null ? INSTALL : 'Check the setting qemu.binary (VMCTL_QEMU_BINARY).',
    fields: { program: name },
  });
}

const INSTALL =
  'Install QEMU: "apt-get install qemu-system-x86 qemu-utils" (Debian, Ubuntu), "dnf install qemu-system-x86-core qemu-img" (Fedora), "pacman -S qemu-base" (Arch), "brew install qemu" (macOS).';

function defaultBinary(): string {
  if (process.arch === 'x64') return 'qemu-system-x86_64';
  throw new VmctlError(
    'HOST_UNSUPPORTED',
    `vmctl runs guests on x86-64 hosts only so far, and this one is ${process.arch}`,
  );
}
