/** Finding the VMFile and reading it. */
import { readFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { VmctlError, type VmctlErrorOptions } from '../errors.js';
import type { SourceFile, Span } from '../model/source.js';
import { errorCode } from '../util/fs.js';

/** The name that is looked for where none is given. */
export const VMFILE_NAME = 'VMFile.kdl';

/** The smallest VMFile, for hints. */
export const MINIMAL_VMFILE = 'vm "web" { image "disk.qcow2" }';

export interface DiscoverOptions {
  /** Absolute. */
  readonly cwd: string;
  /** The VMFile itself, absolute or relative to `cwd`; `VMFile.kdl` in `cwd` where it is not given. */
  readonly file?: string | undefined;
  /** Default: from the file system. */
  readonly read?: (path: string) => Promise<Uint8Array>;
}

/**
 * Reads the VMFile. Throws `VMFILE_NOT_FOUND` when there is none or it cannot be read. Bytes that are not UTF-8 are
 * noted in the result, for `parseVmFile` to report; a byte order mark is left out.
 */
export async function discoverVmFile({ cwd, file, read = readFile }: DiscoverOptions): Promise<SourceFile> {
  const path = resolve(cwd, file ?? VMFILE_NAME);
  try {
    return { path, ...decodeUtf8(await read(path)) };
  } catch (error) {
    throw unreadable({ path, explicit: file !== undefined }, error);
  }
}

function unreadable(looked: { readonly path: string; readonly explicit: boolean }, error: unknown): VmctlError {
  const { path, explicit } = looked;
  const fail = (message: string, options: VmctlErrorOptions): VmctlError =>
    new VmctlError('VMFILE_NOT_FOUND', message, { cause: error, fields: { path }, ...options });
  switch (errorCode(error)) {
    case 'ENOENT':
    case 'ENOTDIR':
      return explicit
        ? fail(`there is no VMFile at ${path}`, { hint: 'Check the path given with --file.' })
        : fail(`there is no ${VMFILE_NAME} in ${dirname(path)}`, {
            hint: `Create one, for example: ${MINIMAL_VMFILE}\nOr name another file with --file PATH.`,
          });
    case 'EISDIR':
      return fail(`${path} is a folder, not a VMFile`, {
        hint: `Name the file itself: --file ${join(path, VMFILE_NAME)}`,
      });
    case 'EACCES':
    case 'EPERM':
      return fail(`${path} cannot be read: permission denied`, { hint: 'Check who owns it and its permissions.' });
    case null:
    default:
      return fail(`${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`, {});
  }
}

/** UTF-8 to text. Every byte that is not part of a valid sequence becomes U+FFFD, and where those are is told. */
export function decodeUtf8(bytes: Uint8Array): { readonly text: string; readonly invalidBytes?: readonly Span[] } {
  try {
    return { text: new TextDecoder('utf-8', { fatal: true }).decode(bytes) };
  } catch {
    return decodeWithPlaces(bytes);
  }
}

function decodeWithPlaces(bytes: Uint8Array): { readonly text: string; readonly invalidBytes: readonly Span[] } {
  const text = new TextDecoder('utf-8').decode(bytes);
  const encoder = new TextEncoder();
  const skipped = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0;
  const invalidBytes: Span[] = [];
  let at = skipped;
  let offset = 0;
  for (const character of text) {
    const start = offset;
    offset += character.length;
    const encoded = encoder.encode(character);
    if (character !== '\uFFFD' || startsWith(bytes.subarray(at), encoded)) {
      at += encoded.length;
      continue;
    }
    at += lengthOfInvalid(bytes.subarray(at));
    const last = invalidBytes.at(-1);
    if (last?.end === start) invalidBytes[invalidBytes.length - 1] = { start: last.start, end: offset };
    else invalidBytes.push({ start, end: offset });
  }
  return { text, invalidBytes };
}

function startsWith(bytes: Uint8Array, prefix: Uint8Array): boolean {
  return prefix.every((byte, index) => bytes[index] === byte);
}

/** How many bytes one U+FFFD stands for: the longest start of a valid sequence, else one (WHATWG Encoding, UTF-8 decoder). */
function lengthOfInvalid(bytes: Uint8Array): number {
  let length = 1;
  while (length < bytes.length && length < 4) {
    const decoded = new TextDecoder('utf-8').decode(bytes.subarray(0, length + 1));
    if (decoded !== '\uFFFD') break;
    length += 1;
  }
  return length;
}
