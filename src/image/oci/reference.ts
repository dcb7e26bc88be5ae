/** Where an `oci://` reference leads, and where a password may go. Pure. */
import { isIPv4 } from 'node:net';
import { VmctlError } from '../../errors.js';
import { type OciReference, ociText, readOciReference } from '../../model/oci-reference.js';

export { type OciReference, ociText };

const DOCKER_HUB = 'docker.io';

/** Throws `IMAGE_NOT_FOUND` for a text that is no reference. */
export function parseOciReference(url: string): OciReference {
  const read = readOciReference(url);
  if (read.ok) return read.value;
  const shown = url.replace(/^(oci:\/\/)[^/]*@/i, '$1…@');
  throw new VmctlError('IMAGE_NOT_FOUND', `${JSON.stringify(shown)} names no image: ${read.problem}`, {
    hint: 'Write oci://REGISTRY/REPOSITORY:TAG or oci://REGISTRY/REPOSITORY@sha256:DIGEST.',
  });
}

/** The origin of the registry's API. Plain http is for this host alone. */
export function registryOrigin({ registry }: Pick<OciReference, 'registry'>): URL {
  if (registry === DOCKER_HUB) return new URL('https://registry-1.docker.io');
  const secure = new URL(`https://${registry}`);
  return isLoopback(secure) ? new URL(`http://${registry}`) : secure;
}

/** True for a URL of this host: `localhost`, 127.0.0.0/8 and `[::1]`. */
export function isLoopback({ hostname }: URL): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || (isIPv4(hostname) && hostname.startsWith('127.'));
}

/** Whether a password may go there: the connection is encrypted, or it does not leave this host. */
export function isPrivate(url: URL): boolean {
  return url.protocol === 'https:' || (url.protocol === 'http:' && isLoopback(url));
}
