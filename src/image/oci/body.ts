/** Small bodies: manifests, tokens, what an error says. */
import { Buffer } from 'node:buffer';
import type { Dispatcher } from 'undici';
import { type HttpOptions, downloadError, networkFailure } from '../http.js';

/** More than anything needs, and little enough to hold in memory (OCI distribution specification, "Push"). */
export const SMALL_BODY_BYTES = 4 * 1024 ** 2;

/** All of a body that has to be small. Throws `IMAGE_DOWNLOAD` for one that is not, `TransientFailure`, `ABORTED`. */
export async function smallBody(
  url: URL,
  { body, headers }: Pick<Dispatcher.ResponseData, 'body' | 'headers'>,
  options: Pick<HttpOptions, 'signal' | 'stallMs'>,
): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    if (Number(headers['content-length'] ?? 0) > SMALL_BODY_BYTES) throw tooLarge(url);
    for await (const chunk of body) {
      const bytes: unknown = chunk;
      if (!(bytes instanceof Uint8Array)) throw new TypeError('a body of bytes was expected');
      length += bytes.length;
      if (length > SMALL_BODY_BYTES) throw tooLarge(url);
      chunks.push(bytes);
    }
  } catch (error) {
    throw networkFailure(url, error, options);
  } finally {
    body.on('error', () => {}).destroy();
  }
  return Buffer.concat(chunks);
}

/** Leaves an answer whose body does not matter; a short one is read, so that the connection can be used again. */
export async function discard({ body }: Pick<Dispatcher.ResponseData, 'body'>): Promise<void> {
  await body.dump().catch(() => {});
}

/** JSON, or undefined for what is none. */
export function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    return undefined;
  }
}

function tooLarge(url: URL): Error {
  return downloadError(url, `the answer is larger than the ${SMALL_BODY_BYTES / 1024 ** 2} MiB that it may have`, {
    hint: 'That is no registry, or a broken one.',
  });
}
