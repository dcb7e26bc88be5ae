/**
 * The host's UEFI firmware for x86-64 guests (OVMF, of the edk2 project): its code, and the template of the variables
 * that each VM gets a private copy of (QEMU manual, "System Emulation", "pflash"). Not here: variants that enforce
 * Secure Boot, which need a machine with SMM and refuse most images.
 *
 * The places are a table. QEMU's firmware descriptors (`/usr/share/qemu/firmware/*.json`) would tell them as well, but
 * only where the distribution ships them, and they lead to these same files.
 */
import { chmod, copyFile, realpath, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { VmctlError } from '../../errors.js';
import { PRIVATE_FILE_MODE, VM_FILES } from '../../paths.js';

/** Two files that belong together; paths are absolute. */
export interface Firmware {
  /** Read only, shared by all VMs. */
  readonly code: string;
  /** Never written: a VM works on a copy. */
  readonly variables: string;
}

export interface FirmwareOptions {
  /** Absolute path of the QEMU binary; its own `share/qemu` is looked into as well. */
  readonly qemuBinary?: string;
  /** Size in bytes of the variables that a VM has already: code of another layout would not read them. */
  readonly variablesBytes?: number;
  /** Bytes of a file, null when there is none; default asks the file system. */
  readonly fileSize?: (path: string) => Promise<number | null>;
}

/** Folder, code, variables: the layout of 4 MiB first, which has room for more variables. */
const PLACES: readonly (readonly [folder: string, code: string, variables: string])[] = [
  // Debian, Ubuntu; the second one is Alpine's as well.
  ['/usr/share/OVMF', 'OVMF_CODE_4M.fd', 'OVMF_VARS_4M.fd'],
  ['/usr/share/OVMF', 'OVMF_CODE.fd', 'OVMF_VARS.fd'],
  // Fedora
  ['/usr/share/edk2/ovmf', 'OVMF_CODE.fd', 'OVMF_VARS.fd'],
  // Arch
  ['/usr/share/edk2/x64', 'OVMF_CODE.4m.fd', 'OVMF_VARS.4m.fd'],
  ['/usr/share/edk2/x64', 'OVMF_CODE.fd', 'OVMF_VARS.fd'],
  ['/usr/share/edk2-ovmf/x64', 'OVMF_CODE.fd', 'OVMF_VARS.fd'],
  // openSUSE
  ['/usr/share/qemu', 'ovmf-x86_64-4m-code.bin', 'ovmf-x86_64-4m-vars.bin'],
  ['/usr/share/qemu', 'ovmf-x86_64-code.bin', 'ovmf-x86_64-vars.bin'],
  // Gentoo
  ['/usr/share/edk2-ovmf', 'OVMF_CODE.fd', 'OVMF_VARS.fd'],
];

/** What QEMU itself ships; the variables are the same for 32 and 64 bits. */
const SHIPPED = ['edk2-x86_64-code.fd', 'edk2-i386-vars.fd'] as const;
/** Homebrew on both kinds of Mac, QEMU from source, and distributions that keep QEMU's own files. */
const QEMU_FOLDERS = ['/opt/homebrew/share/qemu', '/usr/local/share/qemu', '/usr/share/qemu'] as const;

/** The first pair that is there and fits; null when this host has none. */
export async function findFirmware(options: FirmwareOptions = {}): Promise<Firmware | null> {
  const { qemuBinary, variablesBytes, fileSize = sizeOfFile } = options;
  const own = qemuBinary === undefined ? [] : [await shareFolder(qemuBinary)];
  const shipped = [...own, ...QEMU_FOLDERS].map((folder) => [folder, ...SHIPPED] as const);
  for (const [folder, codeName, variablesName] of [...PLACES, ...shipped]) {
    const code = join(folder, codeName);
    const variables = join(folder, variablesName);
    const bytes = await fileSize(variables);
    const fits = bytes !== null && (variablesBytes === undefined || bytes === variablesBytes);
    if (fits && (await fileSize(code)) !== null) return { code, variables };
  }
  return null;
}

/** Like `findFirmware`, but throws `HOST_UNSUPPORTED` with the package to install when there is none. */
export async function requireFirmware(options: FirmwareOptions = {}): Promise<Firmware> {
  const found = await findFirmware(options);
  if (found !== null) return found;
  const { variablesBytes } = options;
  const which = variablesBytes === undefined ? '' : ` for this VM, whose UEFI variables have ${variablesBytes} bytes,`;
  throw new VmctlError('HOST_UNSUPPORTED', `no UEFI firmware${which} was found on this host`, {
    hint: FIRMWARE_HINT,
    fields: { firmware: 'uefi' },
  });
}

/** Gives a VM's directory its own variables, fresh from the template. */
export async function copyVariables(directory: string, qemuBinary: string): Promise<void> {
  const { variables } = await requireFirmware({ qemuBinary });
  const path = join(directory, VM_FILES.firmwareVariables);
  await copyFile(variables, path);
  // The template may be read-only.
  await chmod(path, PRIVATE_FILE_MODE);
}

/** The code that reads the VM's variables: the host may have been given firmware of another layout since. */
export async function uefiCodeFor(directory: string, qemuBinary: string): Promise<string> {
  const variablesBytes = await sizeOfFile(join(directory, VM_FILES.firmwareVariables));
  if (variablesBytes !== null) return (await requireFirmware({ qemuBinary, variablesBytes })).code;
  throw new VmctlError(
    'STATE_DIRECTORY',
    `the UEFI variables ${VM_FILES.firmwareVariables} are missing in ${directory}`,
    {
      hint: 'Remove the VM and make it anew: vmctl destroy NAME',
    },
  );
}

/** What to install on which system. */
const FIRMWARE_HINT =
  'Install it: "apt-get install ovmf" (Debian, Ubuntu), "dnf install edk2-ovmf" (Fedora), "pacman -S edk2-ovmf" (Arch), "zypper install qemu-ovmf-x86_64" (openSUSE), "apk add ovmf" (Alpine), "brew install qemu" (macOS). Or leave `firmware` out, if the image boots with a BIOS.';

/** `PREFIX/bin/qemu-system-x86_64` has its files in `PREFIX/share/qemu`, links followed (Homebrew, Nix). */
async function shareFolder(binary: string): Promise<string> {
  const real = await realpath(binary).catch(() => binary);
  return join(dirname(dirname(real)), 'share', 'qemu');
}

async function sizeOfFile(path: string): Promise<number | null> {
  try {
    const found = await stat(path);
    return found.isFile() ? found.size : null;
  } catch {
    return null;
  }
}
