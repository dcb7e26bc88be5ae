/** What an image URL is called: in the cache, and in messages. Pure. */
import { createHash } from 'node:crypto';
import { VmctlError } from '../errors.js';
import { type OciReference, ociText } from '../model/oci-reference.js';
import { parseOciReference } from './oci/reference.js';

const COMPRESSION_SUFFIX = /\.(?:zstd?|gz|xz|bz2)$/i;
/** Longer suffixes are no file types. */
const TYPE_SUFFIX = /\.[a-z0-9]{1,8}$/i;
const LONGEST_STEM = 80;
const HASH_DIGITS = 12;

/** An `http` or `https` URL. Throws `IMAGE_NOT_FOUND` for what is no URL, `UNSUPPORTED` for another scheme. */
export function parseImageUrl(url: string): URL {
  if (!URL.canParse(url)) {
    throw new VmctlError('IMAGE_NOT_FOUND', `${JSON.stringify(url)} is not a URL`, { hint: 'Check the image URL.' });
  }
  const parsed = new URL(url);
  if (parsed.protocol === 'file:') throw localFile(parsed);
  if (parsed.protocol !== 'https:' && parsed.protocol !== 'http:') {
    throw new VmctlError('UNSUPPORTED', `vmctl cannot download from ${parsed.protocol}//`, {
      hint: 'Use an https or oci URL, or name a local file with "image".',
    });
  }
  return parsed;
}

/** A VMFile may name one by such a URL; then it is used where it is. */
function localFile({ href }: URL): VmctlError {
  return new VmctlError('UNSUPPORTED', `there is nothing to fetch from ${href}: it is a file of this host`, {
    hint: 'Use it where it is: in a VMFile with image "PATH", or with vmctl create --image PATH.',
  });
}

/** Where an image comes from, without what is secret. */
export interface ImageAddress {
  /** Of the whole address; 64 hexadecimal digits. */
  readonly key: string;
  /** For messages and records. */
  readonly shown: string;
  /** What its file is called, in characters that are safe in every file name. */
  readonly name: string;
}

/** The address of what a URL leads to. Throws as `parseImageUrl` does. */
export function addressOf(text: string): ImageAddress {
  if (isOci(text)) return ociAddress(parseOciReference(text));
  const url = parseImageUrl(text);
  return { key: urlKey(url), shown: shownUrl(url), name: imageName(url) };
}

/** True for what is to be a reference to an image in a registry. */
export function isOci(text: string): boolean {
  return /^oci:/i.test(text);
}

function ociAddress(reference: OciReference): ImageAddress {
  const shown = ociText(reference);
  const folder = reference.repository.split('/').at(-1) ?? '';
  // A digest is no name for people, and the file's has one of its own.
  const name = reference.tag === null ? folder : `${folder}-${reference.tag}`;
  return { key: keyOf(shown), shown, name: name.replace(/^[.-]+/, '') };
}

/** 64 hexadecimal digits that stand for a text. */
export function keyOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** Which download it is: the URL without what has no part in choosing the image. 64 hexadecimal digits. */
export function urlKey(url: URL): string {
  const plain = new URL(url);
  plain.hash = '';
  plain.username = '';
  plain.password = '';
  return keyOf(plain.href);
}

/** The URL for messages and records, without passwords: no user, and of the query only that there is one. */
export function shownUrl(url: URL): string {
  return `${url.origin}${url.pathname}${url.search === '' ? '' : '?…'}`;
}

/** The same for a URL, a reference to a registry, or a path, as a VMFile has it. */
export function shownPlace(text: string): string {
  return isOci(text) || !URL.canParse(text) ? text : shownUrl(new URL(text));
}

/**
 * The file name in the cache: `debian-12-genericcloud-amd64-3f1c0a9b2d4e.qcow2`, with so many digits of the content's
 * digest.
 */
export function cachedFileName(name: string, contentSha256: string, digits = HASH_DIGITS): string {
  const plain = name.replace(COMPRESSION_SUFFIX, '');
  const type = TYPE_SUFFIX.exec(plain)?.[0] ?? '';
  const stem = plain.slice(0, plain.length - type.length).slice(0, LONGEST_STEM);
  return `${stem}-${contentSha256.slice(0, digits)}${type}`;
}

/** The last part of the URL's path, in characters that are safe in every file name. */
export function imageName(url: URL): string {
  const last = url.pathname.split('/').findLast((part) => part !== '') ?? '';
  const safe = last.replace(/%[0-9a-f]{2}/gi, '_').replace(/[^A-Za-z0-9._-]/g, '_');
  const visible = safe.replace(/^[.-]+/, '');
  return visible === '' ? 'image' : visible;
}
