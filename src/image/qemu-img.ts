/** Disk images on this host: what they are, and overlays on them. The only file that runs `qemu-img`. */
import { Buffer } from 'node:buffer';
import { type FileHandle, open, realpath, rm } from 'node:fs/promises';
import { isAbsolute } from 'node:path';
import * as v from 'valibot';
import { VmctlError } from '../errors.js';
import type { BaseImage } from '../model/vm.js';
import { type CommandRunner, runCommand } from '../util/exec.js';
import { isMissing } from '../util/fs.js';
import { throwIfAborted } from '../util/wait.js';
import { qcow2Problem } from './qcow2-header.js';
import { FOOTER_BYTES, SIGNATURE_BYTES, type Signature, isVhdFooter, signatureOf } from './signature.js';

export interface QemuImgOptions {
  readonly signal?: AbortSignal;
  /** Default: runs the program. */
  readonly run?: CommandRunner;
  /** Default `qemu-img`, looked for in PATH. */
  readonly binary?: string;
}

/** A sector, the unit of every disk's size. */
const SECTOR_BYTES = 512;
/** A qcow2 header holds no longer name of a backing file (docs/interop/qcow2.txt). */
const LONGEST_BACKING_FILE = 1023;

const ImageFacts = v.object({
  'virtual-size': v.pipe(v.number(), v.integer(), v.minValue(0)),
  'backing-filename': v.optional(v.string()),
});

/**
 * Looks at an image before anything else opens it: its format by its first bytes, and that it is whole, stands alone
 * and is not encrypted. Throws `IMAGE_NOT_FOUND`, `IMAGE_INVALID` with the reason, `HOST_UNSUPPORTED` without qemu-img.
 */
export async function inspectImage(path: string, options: QemuImgOptions = {}): Promise<BaseImage> {
  throwIfAborted(options.signal);
  const real = await resolveImage(path);
  const { head, footer, bytes } = await readEnds(real);
  const signature = signatureOf(head);
  if (signature.kind === 'qcow2') return inspectQcow2(real, head, options);
  if (signature.kind !== 'raw') throw refuse(real, signature);
  if (isVhdFooter(footer)) throw refuse(real, { kind: 'disk', what: 'a VHD image', qemuFormat: 'vpc' });
  if (bytes === 0) throw invalid(real, 'it is empty', 'Fetch or copy the image again.');
  if (bytes % SECTOR_BYTES !== 0) {
    throw invalid(
      real,
      `it has ${bytes} bytes, which is no multiple of ${SECTOR_BYTES}, so it is not a raw disk or it was cut off`,
      'Fetch or copy the image again, or name an image in qcow2 or raw format.',
    );
  }
  return { path: real, format: 'raw', virtualBytes: bytes };
}

export interface Overlay {
  readonly base: BaseImage;
  /** Absolute path of the overlay; a file that is there is replaced. */
  readonly path: string;
  /** The disk as the guest sees it, rounded up to whole sectors; null takes the image's size. */
  readonly sizeBytes: number | null;
}

/**
 * Makes a qcow2 overlay that stands on the image, which is only read. Throws `IMAGE_INVALID` when the disk would be
 * smaller than the image, `HOST_UNSUPPORTED` without qemu-img, `COMMAND_FAILED` with qemu-img's own words.
 */
export async function createOverlay(overlay: Overlay, options: QemuImgOptions = {}): Promise<void> {
  const { base, path } = overlay;
  // Absolute paths begin with a slash, so qemu-img takes none for an option or for a protocol such as `json:`.
  for (const name of [base.path, path]) checkPath(name);
  if (Buffer.byteLength(base.path) > LONGEST_BACKING_FILE) {
    throw invalid(
      base.path,
      `its path has more than ${LONGEST_BACKING_FILE} bytes, and a qcow2 overlay can name no longer one`,
      'Move the image to a folder with a shorter path.',
    );
  }
  const size = diskSize(base, overlay.sizeBytes);
  const words = ['create', '-q', '-f', 'qcow2', '-b', base.path, '-F', base.format, '--', path, String(size)];
  try {
    await qemuImg(words, options);
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  }
}

/** The size of a disk on the image, in whole sectors; null takes the image's. Throws `IMAGE_INVALID` for a smaller one. */
export function diskSize(base: BaseImage, wanted: number | null): number {
  const size = wanted === null ? base.virtualBytes : wholeSectors(wanted);
  if (size < base.virtualBytes) throw tooSmall(base, size);
  return size;
}

/**
 * Writes the image as a raw disk onto a device that is there and large enough. Throws `HOST_UNSUPPORTED` without
 * qemu-img, `COMMAND_FAILED` with qemu-img's own words.
 */
export async function writeRaw(image: BaseImage, device: string, options: QemuImgOptions = {}): Promise<void> {
  for (const name of [image.path, device]) checkPath(name);
  await qemuImg(['convert', '-n', '-f', image.format, '-O', 'raw', '--', image.path, device], options);
}

async function resolveImage(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if (isMissing(error)) {
      throw new VmctlError('IMAGE_NOT_FOUND', `there is no image ${path}`, {
        hint: 'Check the path; relative paths are taken from the folder of the VMFile.',
        cause: error,
        fields: { path },
      });
    }
    throw unreadable(path, error);
  }
}

interface Ends {
  readonly head: Buffer;
  readonly footer: Buffer;
  readonly bytes: number;
}

async function readEnds(path: string): Promise<Ends> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (error) {
    throw unreadable(path, error);
  }
  try {
    const facts = await file.stat();
    if (facts.isDirectory()) throw invalid(path, 'it is a folder', 'Name the image file itself.');
    if (!facts.isFile()) throw invalid(path, 'it is not a regular file', 'Name an image file.');
    const read = async (position: number, length: number): Promise<Buffer> => {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position);
      return buffer.subarray(0, bytesRead);
    };
    const head = await read(0, Math.max(SIGNATURE_BYTES, 4096));
    return { head, footer: await read(Math.max(0, facts.size - FOOTER_BYTES), FOOTER_BYTES), bytes: facts.size };
  } finally {
    await file.close();
  }
}

async function inspectQcow2(path: string, head: Uint8Array, options: QemuImgOptions): Promise<BaseImage> {
  const problem = qcow2Problem(head);
  if (problem !== null) throw invalid(path, problem.reason, problem.hint);
  let facts: v.InferOutput<typeof ImageFacts>;
  try {
    facts = v.parse(ImageFacts, await qemuImgInfo(path, options));
  } catch (error) {
    if (!failed(error)) throw error;
    throw invalid(path, `qemu-img cannot read it: ${qemuWords(error)}`, 'Fetch or copy the image again.', error);
  }
  if (facts['backing-filename'] !== undefined) throw invalid(path, 'it has a backing file', 'Flatten it first.');
  await checkWhole(path, options);
  return { path, format: 'qcow2', virtualBytes: facts['virtual-size'] };
}

/** What `qemu-img info` says of a qcow2 file that `inspectImage` lets pass, or whose header was looked at before. */
export async function qemuImgInfo(path: string, options: QemuImgOptions): Promise<unknown> {
  const { stdout } = await qemuImg(['info', '--output=json', '-f', 'qcow2', '--', path], options);
  return JSON.parse(stdout);
}

/** Every cluster that the tables name is in the file. qemu-img's exit code 3 means wasted space only. */
async function checkWhole(path: string, options: QemuImgOptions): Promise<void> {
  try {
    await qemuImg(['check', '--output=json', '-f', 'qcow2', '--', path], options);
  } catch (error) {
    if (!failed(error)) throw error;
    if (error.fields['exitCode'] === 3) return;
    const words = error.details ?? error.message;
    const cutOff = words.includes('end of the file');
    throw invalid(
      path,
      cutOff ? 'it is cut off: parts of the disk are missing' : `it is damaged: ${qemuWords(error)}`,
      'Fetch or copy the image again.',
      error,
    );
  }
}

/** Runs qemu-img. Throws `HOST_UNSUPPORTED` with what to install, `COMMAND_FAILED` with its own words. */
export async function qemuImg(
  arguments_: readonly string[],
  options: QemuImgOptions,
): Promise<{ readonly stdout: string }> {
  const { signal, run = runCommand, binary = 'qemu-img' } = options;
  try {
    return await run(binary, arguments_, signal === undefined ? {} : { signal });
  } catch (error) {
    if (!(error instanceof VmctlError) || error.code !== 'HOST_UNSUPPORTED') throw error;
    throw new VmctlError('HOST_UNSUPPORTED', error.message, {
      hint: 'Install it: the package is qemu-utils on Debian and Ubuntu, qemu-img on Fedora, Arch and Alpine, qemu-tools on openSUSE, qemu in Homebrew.',
      cause: error,
      fields: error.fields,
    });
  }
}

function failed(error: unknown): error is VmctlError {
  return error instanceof VmctlError && error.code === 'COMMAND_FAILED';
}

/** What qemu-img said, without the words about how it ended. */
function qemuWords(error: VmctlError): string {
  const last = (error.details ?? error.message).trim().split('\n').at(-1) ?? '';
  return last.replace(/^.*?: (?=qemu-img: )/, '').replace(/^qemu-img: /, '');
}

function checkPath(path: string): void {
  if (!isAbsolute(path) || path.includes('\0')) {
    throw new VmctlError('INTERNAL', `Internal error: ${JSON.stringify(path)} is not an absolute path`);
  }
}

function wholeSectors(bytes: number): number {
  return Math.ceil(bytes / SECTOR_BYTES) * SECTOR_BYTES;
}

function tooSmall(base: BaseImage, size: number): VmctlError {
  const [wanted, needed] = [formatSize(size), formatSize(base.virtualBytes)];
  return new VmctlError('IMAGE_INVALID', `a disk of ${wanted} is smaller than the image ${base.path} (${needed})`, {
    hint: `Give "disk" at least ${needed}, or leave it out to take the image's size.`,
    fields: { path: base.path, diskBytes: size, imageBytes: base.virtualBytes },
  });
}

/** Bytes for people, never rounded: `2 GiB`, `2361393152 bytes`. */
function formatSize(bytes: number): string {
  const units = ['GiB', 'MiB', 'KiB'];
  for (const [index, unit] of units.entries()) {
    const size = 1024 ** (units.length - index);
    if (bytes >= size && bytes % size === 0) return `${bytes / size} ${unit}`;
  }
  return `${bytes} bytes`;
}

function refuse(path: string, signature: Exclude<Signature, { readonly kind: 'qcow2' | 'raw' }>): VmctlError {
  if (signature.kind === 'compressed') {
    const tool = { gzip: 'gunzip', zstd: 'zstd -d', xz: 'unxz', bzip2: 'bunzip2' }[signature.by];
    return invalid(path, `it is compressed with ${signature.by}`, `Decompress it with "${tool}" and name the result.`);
  }
  if (signature.kind === 'foreign') {
    return invalid(path, `it is ${signature.what}, not a disk image`, 'Name an image in qcow2 or raw format.');
  }
  const format = signature.qemuFormat === null ? '' : `-f ${signature.qemuFormat} `;
  return invalid(path, `it is ${signature.what}`, `Convert it: qemu-img convert ${format}-O qcow2 IMAGE image.qcow2`);
}

function unreadable(path: string, error: unknown): VmctlError {
  const words = error instanceof Error ? error.message : String(error);
  return invalid(path, `it cannot be read: ${words}`, 'Check its owner and permissions.', error);
}

function invalid(path: string, reason: string, hint: string, cause?: unknown): VmctlError {
  return new VmctlError('IMAGE_INVALID', `${path} is not an image that vmctl can use: ${reason}`, {
    hint,
    ...(cause === undefined ? {} : { cause }),
    fields: { path, reason },
  });
}
