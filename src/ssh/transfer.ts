/** What copying into the guest and out of it have in common. */
import { posix } from 'node:path';
import { VmctlError } from '../errors.js';
import { SFTP_STATUS, type SftpRequests, statusOf } from './sftp.js';

export interface TransferOptions {
  readonly signal?: AbortSignal;
  /** Bytes of content so far, and of all files together. */
  readonly onProgress?: (bytes: number, totalBytes: number) => void;
  /** Called for each socket, device and named pipe in a folder, with its path: they are left out. */
  readonly onSkipped?: (path: string) => void;
}

/** What was copied. */
export interface TransferSummary {
  readonly files: number;
  readonly folders: number;
  readonly links: number;
  readonly bytes: number;
}

/** `1 file`, `12 files and 2 links in 3 folders`: what was copied, without its size. */
export function countText({ files, folders, links }: TransferSummary): string {
  const count = (many: number, what: string): string => `${many} ${what}${many === 1 ? '' : 's'}`;
  if (folders === 0) return count(files, 'file');
  return `${count(files, 'file')}${links === 0 ? '' : ` and ${count(links, 'link')}`} in ${count(folders, 'folder')}`;
}

/** From where to where, with what it is called. */
export interface TransferPaths {
  readonly verb: 'upload' | 'download';
  readonly from: string;
  readonly to: string;
}

/** `TRANSFER_FAILED` for a copy that cannot be made: `cannot upload /a to /b: …`. */
export function refused(
  paths: TransferPaths,
  what: string,
  options: { readonly hint?: string | undefined; readonly cause?: unknown } = {},
): VmctlError {
  const { hint, cause } = options;
  return new VmctlError('TRANSFER_FAILED', `cannot ${paths.verb} ${paths.from} to ${paths.to}: ${what}`, {
    cause,
    ...(hint === undefined ? {} : { hint }),
    fields: { source: paths.from, destination: paths.to },
  });
}

/** Explains what went wrong with the side of a copy that is in the guest, asking the guest where that helps. */
export async function guestError(error: unknown, requests: SftpRequests, paths: TransferPaths): Promise<VmctlError> {
  if (error instanceof VmctlError) return error;
  const status = statusOf(error);
  if (status === null) return requests.brokenOff();
  const words = error instanceof Error ? error.message : String(error);
  return paths.verb === 'upload'
    ? await uploadError({ status, words, error }, requests, paths)
    : downloadError({ status, words, error }, requests, paths);
}

/** The same for a path in the guest that was only looked at. */
export function lookError(error: unknown, requests: SftpRequests, path: string): VmctlError {
  if (error instanceof VmctlError) return error;
  if (statusOf(error) === null) return requests.brokenOff();
  const words = error instanceof Error ? error.message : String(error);
  return new VmctlError('TRANSFER_FAILED', `cannot look at ${path} in the guest: ${words}`, { cause: error });
}

interface Refusal {
  readonly status: number;
  readonly words: string;
  readonly error: unknown;
}

async function uploadError(refusal: Refusal, requests: SftpRequests, paths: TransferPaths): Promise<VmctlError> {
  const { status, words, error } = refusal;
  const failed = (what: string, hint?: string): VmctlError => refused(paths, what, { hint, cause: error });
  if (status === SFTP_STATUS.noSuchFile) {
    const folder = posix.dirname(paths.to);
    return failed(`${words} (the folder ${folder} does not exist in the guest)`, `Create ${folder} first.`);
  }
  if (status === SFTP_STATUS.permissionDenied) {
    return failed(words, `Files arrive as user "${requests.user}": put them into /tmp, then move them with sudo.`);
  }
  if ((await requests.stat(paths.to).catch(() => null))?.kind === 'folder') {
    return failed('the destination is a folder', `Name the file: ${posix.join(paths.to, posix.basename(paths.from))}`);
  }
  const full = 'The guest may have no space left, or be running that file.';
  return failed(words, status === SFTP_STATUS.failure ? full : undefined);
}

function downloadError({ status, words, error }: Refusal, requests: SftpRequests, paths: TransferPaths): VmctlError {
  const hint =
    status === SFTP_STATUS.permissionDenied
      ? `Files are read as user "${requests.user}": copy them with sudo to where that user may read them.`
      : undefined;
  return refused(paths, status === SFTP_STATUS.noSuchFile ? 'it does not exist in the guest' : words, {
    hint,
    cause: error,
  });
}
