/**
 * The servers of the distributions in small, as `test/fixtures/images/distribution-servers.txt` knows them: for every
 * image a tiny disk at the path of its URL, and beside it the list of checksums in the format that the distribution
 * publishes. One loopback server plays all of them: the dispatcher leads every request there, with the real host's name
 * before the path.
 */
import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Agent, type Dispatcher } from 'undici';
import { type Asked, startHttpServer } from './http-server.js';

export interface PresetMirror extends AsyncDisposable {
  readonly dispatcher: Dispatcher;
  /** By URL: a raw disk of 4 KiB, another one for each image. */
  readonly images: ReadonlyMap<string, Buffer>;
  /** Paths are those of the loopback server: `/cloud.debian.org/images/…`. */
  readonly requests: readonly Asked[];
}

type ListFormat = (files: readonly { readonly name: string; readonly content: Buffer }[]) => string;

const hash = (algorithm: 'sha256' | 'sha512', content: Buffer): string =>
  createHash(algorithm).update(content).digest('hex');

const gnu =
  (algorithm: 'sha256' | 'sha512', separator: string): ListFormat =>
  (files) =>
    files.map(({ name, content }) => `${hash(algorithm, content)}${separator}${name}\n`).join('');

const bsd: ListFormat = (files) =>
  files
    .map(({ name, content }) => `# ${name}: ${content.length} bytes\nSHA256 (${name}) = ${hash('sha256', content)}\n`)
    .join('');

const clearSigned =
  (format: ListFormat): ListFormat =>
  (files) =>
    [
      '-----BEGIN PGP SIGNED MESSAGE-----',
      'Hash: SHA256',
      '',
      `${format(files)}-----BEGIN PGP SIGNATURE-----`,
      '',
      'iQIzBAEBCAAdFiEE',
      '-----END PGP SIGNATURE-----',
      '',
    ].join('\n');

/** By the host of the list; `openSUSE-` is how the lists of Leap 15 are called, which have one space. */
const FORMATS: readonly (readonly [RegExp, ListFormat])[] = [
  [/\/cloud\.debian\.org\//, gnu('sha512', '  ')],
  [/\/cloud-images\.ubuntu\.com\//, gnu('sha256', ' *')],
  [/\.fedoraproject\.org\//, clearSigned(bsd)],
  [/\/dl-cdn\.alpinelinux\.org\//, (files) => files.map(({ content }) => hash('sha512', content)).join('')],
  [/\/dl\.rockylinux\.org\/|\/cloud\.centos\.org\//, bsd],
  [/\/repo\.almalinux\.org\/|\/geo\.mirror\.pkgbuild\.com\//, gnu('sha256', '  ')],
  [/\/openSUSE-[^/]*$/, gnu('sha256', ' ')],
  [/\/download\.opensuse\.org\//, gnu('sha256', '  ')],
];

/** Neighbours that a real list has too, more similar to the image than anything else. */
const OTHERS = ['.raw', '.qcow2.sig', '-ext4.qcow2', '.tar.xz'];

export async function startPresetMirror(): Promise<PresetMirror> {
  const server = await startHttpServer();
  const agent = new Agent();
  const images = new Map<string, Buffer>();
  const lists = new Map<string, string[]>();
  for (const [url, list] of layout()) {
    images.set(url, diskOf(url));
    const listUrl = new URL(list, url).href;
    lists.set(listUrl, [...(lists.get(listUrl) ?? []), url]);
  }
  for (const [url, content] of images) server.serve(localPath(url), { body: content });
  for (const [list, urls] of lists) server.serve(localPath(list), { body: listOf(list, urls) });
  return {
    images,
    requests: server.requests,
    dispatcher: agent.compose((dispatch) => (options, handler) => {
      const path = `/${new URL(String(options.origin)).host}${options.path}`;
      return dispatch({ ...options, origin: `http://${server.host}`, path }, handler);
    }),
    [Symbol.asyncDispose]: async () => {
      await agent.destroy();
      await server[Symbol.asyncDispose]();
    },
  };
}

function layout(): readonly (readonly [url: string, list: string])[] {
  const text = readFileSync(join(import.meta.dirname, '../fixtures/images/distribution-servers.txt'), 'utf8');
  return text.split('\n').flatMap((line) => {
    const [url, list] = line.split(' ');
    return line.startsWith('#') || url === undefined || list === undefined ? [] : [[url, list] as const];
  });
}

function localPath(url: string): string {
  const { host, pathname } = new URL(url);
  return `/${host}${pathname}`;
}

/** Whole sectors without a known signature. */
function diskOf(url: string): Buffer {
  const content = Buffer.alloc(4096, 1);
  createHash('sha256').update(url).digest().copy(content, 8);
  return content;
}

function listOf(list: string, urls: readonly string[]): string {
  const format = FORMATS.find(([pattern]) => pattern.test(list))?.[1];
  if (format === undefined) throw new Error(`nothing is known of the format of ${list}`);
  const own = urls.map((url) => ({ name: baseName(url), content: diskOf(url) }));
  // A list for one image, as `NAME.sha256`, has no other.
  if (urls.some((url) => list.startsWith(url))) return format(own);
  const others = urls.flatMap((url) => OTHERS.map((suffix) => `${baseName(url).replace(/\.[^.]+$/, '')}${suffix}`));
  return format([...others.map((name) => ({ name, content: Buffer.from(name) })), ...own]);
}

function baseName(url: string): string {
  return url.slice(url.lastIndexOf('/') + 1);
}
