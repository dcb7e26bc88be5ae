/** Gets the list that a checksum is in, and the checksum out of it. */
import { readFile, stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { VmctlError, unreachable } from '../errors.js';
import type { Checksum, ChecksumList } from '../model/spec.js';
import { isMissing } from '../util/fs.js';
import { type ChecksumLookup, type NoList, findChecksum } from './checksum-list.js';
import { type HttpOptions, TransientFailure, networkFailure, sendRequest, statusFailure } from './http.js';
import { shownUrl } from './source.js';

/** Ubuntu's has 5 KB. What is larger is no list, and is not read into memory. */
const MAX_LIST_BYTES = 4 * 1024 ** 2;

/** One list, and the file in it that is meant. */
interface Wanted {
  readonly list: URL;
  /** For messages. */
  readonly shown: string;
  readonly fileName: string;
}

/**
 * What the list promises of the image: of the file that the URL's path ends with. The list may be on `https`, `http` or
 * in a local `file`. Throws `TransientFailure` for what may succeed in another attempt; `IMAGE_CHECKSUM` when the list
 * has no checksum of the image that can be taken, `IMAGE_NOT_FOUND` when there is no list, `IMAGE_DOWNLOAD`, `ABORTED`,
 * and `UNSUPPORTED` for another scheme.
 */
export async function fetchChecksum(list: ChecksumList, imageUrl: URL, http: HttpOptions): Promise<Checksum> {
  const url = new URL(list.url);
  const shown = url.protocol === 'file:' ? url.href : shownUrl(url);
  const wanted = { list: url, shown, fileName: fileNameOf(imageUrl) };
  const lookup = findChecksum(await textOf(wanted, http), wanted.fileName);
  if (lookup.kind === 'found') return lookup.checksum;
  throw lookupError(lookup, wanted);
}

/** The last part of the path as a server means it, escapes undone where they can be. */
function fileNameOf(url: URL): string {
  const last = url.pathname.slice(url.pathname.lastIndexOf('/') + 1);
  try {
    return decodeURIComponent(last);
  } catch {
    return last;
  }
}

async function textOf(wanted: Wanted, http: HttpOptions): Promise<string> {
  const { protocol } = wanted.list;
  if (protocol === 'file:') return localText(wanted);
  if (protocol === 'https:' || protocol === 'http:') return remoteText(wanted, http);
  throw new VmctlError('UNSUPPORTED', `vmctl cannot get a checksum list from ${protocol}//`, {
    hint: 'Use an https:// or file:// URL, or give the digest itself: checksum "sha256:…".',
  });
}

async function remoteText(wanted: Wanted, http: HttpOptions): Promise<string> {
  const { list } = wanted;
  try {
    const response = await sendRequest(list, {}, http);
    const { body, statusCode } = response;
    try {
      if (statusCode === 404 || statusCode === 410) throw noList(wanted, `HTTP ${statusCode}`);
      if (statusCode !== 200) throw statusFailure(list, response);
      return await limitedText(body, wanted);
    } catch (error) {
      body.on('error', () => {}).destroy();
      throw error instanceof TransientFailure ? error : networkFailure(list, error, http);
    }
  } catch (error) {
    throw withPurpose(error, wanted);
  }
}

async function limitedText(body: Readable, wanted: Wanted): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  let bytes = 0;
  const chunks: AsyncIterable<Uint8Array> = body;
  for await (const chunk of chunks) {
    bytes += chunk.byteLength;
    if (bytes > MAX_LIST_BYTES) throw tooLarge(wanted);
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

async function localText(wanted: Wanted): Promise<string> {
  try {
    const path = fileURLToPath(`file://${wanted.list.pathname}`);
    const facts = await stat(path);
    // A pipe would be waited for, for ever.
    if (!facts.isFile()) throw noList(wanted, 'it is no file');
    if (facts.size > MAX_LIST_BYTES) throw tooLarge(wanted);
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof VmctlError) throw error;
    if (isMissing(error)) throw noList(wanted, 'no such file', error);
    const reason = error instanceof Error ? error.message : String(error);
    const message = `cannot read the checksum list ${wanted.shown} for ${wanted.fileName}: ${reason}`;
    throw new VmctlError('IMAGE_DOWNLOAD', message, { cause: error, hint: LIST_HINT, fields: fieldsOf(wanted) });
  }
}

const LIST_HINT = 'Check the URL in `checksum`, or give the digest itself: checksum "sha256:…".';

function fieldsOf({ shown, fileName }: Wanted): Readonly<Record<string, string>> {
  return { url: shown, file: fileName };
}

function noList(wanted: Wanted, reason: string, cause?: unknown): VmctlError {
  const message = `there is no checksum list at ${wanted.shown} (${reason}) to look for ${wanted.fileName} in`;
  const fields = fieldsOf(wanted);
  return new VmctlError('IMAGE_NOT_FOUND', message, {
    hint: LIST_HINT,
    fields,
    ...(cause === undefined ? {} : { cause }),
  });
}

function tooLarge(wanted: Wanted): VmctlError {
  const limit = `${MAX_LIST_BYTES / 1024 ** 2} MiB`;
  const message = `the checksum list ${wanted.shown} for ${wanted.fileName} is larger than ${limit}`;
  const hint = 'Name the list of checksums, as SHA256SUMS, and not the image.';
  return new VmctlError('IMAGE_CHECKSUM', message, { hint, fields: fieldsOf(wanted) });
}

/** The URL alone would not say why it was asked for. */
function withPurpose(error: unknown, wanted: Wanted): unknown {
  if (error instanceof TransientFailure) {
    return new TransientFailure(describe(error.error, wanted), error.retryAfterMs);
  }
  return error instanceof VmctlError && error.code === 'IMAGE_DOWNLOAD' ? describe(error, wanted) : error;
}

function describe(error: VmctlError, wanted: Wanted): VmctlError {
  const message = `no checksum for ${wanted.fileName}: ${error.message}`;
  const hint = error.hint === null ? {} : { hint: error.hint };
  return new VmctlError(error.code, message, {
    ...hint,
    cause: error,
    fields: { ...error.fields, ...fieldsOf(wanted) },
  });
}

function lookupError(lookup: Exclude<ChecksumLookup, { readonly kind: 'found' }>, wanted: Wanted): VmctlError {
  const { message, hint } = explain(lookup, wanted);
  return new VmctlError('IMAGE_CHECKSUM', message, { hint, fields: { ...fieldsOf(wanted), problem: lookup.kind } });
}

const NO_LIST: Readonly<Record<NoList, string>> = {
  empty: 'it is empty',
  HTML: 'it is a web page',
  binary: 'it is no text',
  signature: 'it is the signature of one',
  other: 'no line of it is a checksum',
};

function explain(
  lookup: Exclude<ChecksumLookup, { readonly kind: 'found' }>,
  { shown, fileName }: Wanted,
): { readonly message: string; readonly hint: string } {
  switch (lookup.kind) {
    case 'absent': {
      const near = lookup.near.join(', ');
      return {
        message: `the checksum list ${shown} has no ${fileName}`,
        hint: near === '' ? LIST_HINT : `It has similar ones: ${near}. Check the URLs of image and checksum.`,
      };
    }
    case 'unsupported':
      return {
        message: `the checksum list ${shown} has only ${lookup.algorithms.join(' and ')} for ${fileName}`,
        hint: 'vmctl takes sha256 and sha512 only. Look for a SHA256SUMS or SHA512SUMS file beside it.',
      };
    case 'ambiguous':
      return {
        message: `the checksum list ${shown} has ${lookup.digests.length} different ${lookup.algorithm} digests for ${fileName}`,
        hint: `Give the right one itself: checksum "${lookup.algorithm}:…".`,
      };
    case 'no-list':
      return { message: `${shown} is no checksum list for ${fileName}: ${NO_LIST[lookup.content]}`, hint: LIST_HINT };
    default:
      return unreachable(lookup);
  }
}
