/** Which kind of place a URL leads to. */
import { RegistryPlace, type RegistryUser, refuseChecksum } from './oci/place.js';
import { parseOciReference } from './oci/reference.js';
import type { ImagePlace, RemoteImage } from './place.js';
import { isOci, parseImageUrl } from './source.js';
import { WebPlace } from './web-place.js';

/**
 * The place that a URL leads to. Throws `IMAGE_NOT_FOUND` for what is no URL, `UNSUPPORTED` for another scheme, and for
 * a checksum of what is in a registry.
 */
export function placeOf({ url, checksum }: RemoteImage, user: RegistryUser): ImagePlace {
  if (!isOci(url)) return new WebPlace(parseImageUrl(url), { checksum, proxies: user.environment });
  const place = new RegistryPlace(parseOciReference(url), user);
  return checksum === null ? place : refuseChecksum(place.address.shown);
}
