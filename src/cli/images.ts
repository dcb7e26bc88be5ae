/** The commands about images that look or fetch; what removes is in `collection.ts`. */
import { resolve } from 'node:path';
import { ageText } from '../../tasks/image-policy.js';
import { imageFacts } from '../../tasks/image-use.js';
import { bytesText, progressReader } from '../../tasks/progress-text.js';
import { imagePreset, imagePresetNames } from '../../presets/images.js';
import { VmctlError } from '../errors.js';
import { checkImageName, nameImage, originOf } from '../image/cache-index.js';
import { markDamaged } from '../image/cache-store.js';
import { fetchImage } from '../image/cache.js';
import { digestFile } from '../image/digested-file.js';
import type { RemoteImage } from '../image/place.js';
import type { PullPolicy } from '../model/pull-policy.js';
import { readDiskHeader } from '../image/disk-header.js';
import { type ImageDescription, describeImage } from '../image/inspect.js';
import { inspectImage } from '../image/qemu-img.js';
import { addressOf, shownPlace } from '../image/source.js';
import { exists } from '../util/fs.js';
import { parseChecksum } from '../vmfile/names.js';
import { didYouMean } from '../vmfile/suggest.js';
import type { TaskEnvironment } from '../../tasks/context.js';
import type { Cli } from './cli.js';
import { EXIT } from './exit-code.js';
import { pairs, printJson, printNote, table } from './report.js';
import { openReader, openSession } from './session.js';

export interface PullFlags {
  readonly name?: string;
  readonly checksum?: string;
  readonly pull?: PullPolicy;
  readonly json: boolean;
}

/** `image pull`: prints the path, or with a name that of the link. */
export async function pull(cli: Cli, wanted: string, flags: PullFlags): Promise<void> {
  const { name, json } = flags;
  if (name !== undefined) checkImageName(name);
  const source = sourceOf(wanted, flags.checksum);
  const { env } = await openSession(cli, 'image pull', flags.pull === undefined ? {} : { 'images.pull': flags.pull });
  noteProgress(cli, env);
  const reporter = env.events.reporter(null, 'resolve');
  const access = { directory: env.paths.images, command: env.command, signal: cli.signal };
  const { variables: environment, home } = cli;
  const path = await fetchImage(source, { ...access, reporter, pull: env.pull, environment, home });
  const image = await inspectImage(path, { signal: cli.signal });
  const link = name === undefined ? null : await nameImage(name, path, access);
  if (json) {
    printJson(cli, {
      url: source.url,
      path,
      name: name ?? null,
      link,
      format: image.format,
      virtualBytes: image.virtualBytes,
    });
    return;
  }
  cli.stdout.write(`${link ?? path}\n`);
  printNote(
    cli,
    `${image.format}, ${bytesText(image.virtualBytes)} of disk${link === null ? '' : `, stored as ${path}`}`,
  );
}

/** Prints what happens to an image, a line a second at most for its bytes. */
export function noteProgress(cli: Cli, env: TaskEnvironment): void {
  const read = progressReader();
  let last = 0;
  env.events.subscribe((event) => {
    if (event.type === 'progress' && event.time - last < 1000) return;
    last = event.time;
    const text = read(event);
    if (text !== null) printNote(cli, text);
  });
}

/** What a URL or the name of a preset stands for. Throws `USAGE`. */
function sourceOf(wanted: string, promised: string | undefined): RemoteImage {
  const parsed = promised === undefined ? null : parseChecksum(promised);
  if (parsed?.ok === false) {
    throw new VmctlError('USAGE', `--checksum must be a checksum: ${JSON.stringify(promised)}, but ${parsed.problem}`, {
      hint: 'Write sha256:HEX, sha512:HEX or the URL of a SHA256SUMS file.',
    });
  }
  const preset = imagePreset(wanted, process.arch);
  if (preset !== undefined) return { url: preset.url, checksum: parsed?.value ?? preset.checksum };
  if (/^[a-z]+:/i.test(wanted)) return { url: wanted, checksum: parsed?.value ?? null };
  throw new VmctlError('USAGE', `${JSON.stringify(wanted)} is neither a URL nor an image preset for this host`, {
    hint: didYouMean(wanted, imagePresetNames, '"') ?? 'The presets: vmctl image presets',
  });
}

/** `image list`: exit code 1 when `--verify` finds a damaged image. */
export async function list(
  cli: Cli,
  { json, verify }: { readonly json: boolean; readonly verify: boolean },
): Promise<void> {
  const env = openReader(cli, 'image list');
  if (verify && !(await verifyAll(cli, env))) cli.exitCode = EXIT.failed;
  const rows = await Promise.all(
    (await imageFacts(env)).map(async ({ path, record, lastUsedAt, diskBytes, names, users }) => {
      const header = await readDiskHeader(path);
      const origin = originOf(record);
      return {
        names,
        url: origin?.url ?? null,
        path,
        format: header.format,
        diskBytes,
        virtualBytes: header.format === 'unknown' ? null : header.virtualBytes,
        damaged: record.damagedAt !== null,
        checksum: `sha256:${record.file.sha256}`,
        fetchedAt: origin?.fetchedAt ?? null,
        lastUsedAt: new Date(lastUsedAt).toISOString(),
        usedBy: users,
      };
    }),
  );
  if (json) {
    printJson(cli, { images: rows });
    return;
  }
  if (rows.length === 0) {
    printNote(cli, 'there are no images in the cache; get one with: vmctl image pull URL');
    return;
  }
  const header = ['NAME', 'FORMAT', 'ON DISK', 'VIRTUAL', 'CHECKSUM', 'LAST USED', 'USED BY', 'URL'];
  const cells = rows.map((row) => [
    orDash(row.names.join(', ')),
    row.damaged ? 'DAMAGED' : row.format,
    bytesText(row.diskBytes),
    row.virtualBytes === null ? '-' : bytesText(row.virtualBytes),
    row.checksum.slice(0, 'sha256:'.length + 12),
    `${ageText(Math.max(0, Date.now() - Date.parse(row.lastUsedAt)))} ago`,
    orDash(row.usedBy.join(', ')),
    orDash(row.url ?? ''),
  ]);
  cli.stdout.write(table(header, cells));
}

/** Reads every image; false when one is not what its digest says. */
async function verifyAll(cli: Cli, env: TaskEnvironment): Promise<boolean> {
  let sound = true;
  for (const { path, record, names, users } of await imageFacts(env)) {
    const shown = names[0] ?? record.file.name;
    printNote(cli, `reading ${shown}, ${bytesText(record.file.bytes)}`);
    if ((await digestFile(path, cli.signal)) === record.file.sha256) continue;
    sound = false;
    await markDamaged(path, { directory: env.paths.images, command: env.command, signal: cli.signal });
    const url = originOf(record)?.url ?? 'its URL';
    const next = users.length === 0 ? '' : `; it is under the disk of ${users.join(', ')}, which may be damaged too`;
    printNote(cli, `${shown} is damaged${next}; whoever wants ${url} the next time gets it anew`);
  }
  return sound;
}

/** `image inspect`: exit code 1 for a file that vmctl refuses. */
export async function inspect(cli: Cli, image: string, json: boolean): Promise<void> {
  const env = openReader(cli, 'image inspect');
  const known = await imageFacts(env);
  const path = await findImage(cli, env, image);
  const description = await describeImage(path, { signal: cli.signal });
  const cached = known.find((candidate) => candidate.path === path || candidate.path === description.path);
  const origin =
    cached === undefined
      ? null
      : { url: originOf(cached.record)?.url ?? '-', names: cached.names, usedBy: cached.users };
  if (json) printJson(cli, { ...description, cache: origin });
  else cli.stdout.write(pairs([...rowsOf(description), ...originRows(origin)]));
  if (!description.usable) cli.exitCode = EXIT.failed;
}

/** The path that is meant: a file of that path, else an image of the cache by its URL, its name or its file name. */
export async function findImage(cli: Cli, env: TaskEnvironment, image: string): Promise<string> {
  const path = resolve(cli.cwd, image);
  if (await exists(path)) return path;
  const cached = await imageFacts(env);
  const key = keyOfUrl(image);
  const found = cached
    .filter(
      ({ record, names }) =>
        (key !== null && originOf(record, key) !== undefined) || record.file.name === image || names.includes(image),
    )
    .toSorted((a, b) => b.lastUsedAt - a.lastUsedAt)[0];
  if (found !== undefined) return found.path;
  const hint = didYouMean(
    image,
    cached.flatMap(({ names }) => names),
    '"',
  );
  const shown = shownPlace(image);
  const sought = key === null ? `there is no file ${path}, and` : 'there is';
  throw new VmctlError('IMAGE_NOT_FOUND', `${sought} no image ${JSON.stringify(shown)} in the cache`, {
    hint: hint ?? 'The images of the cache: vmctl image list',
    fields: { image: shown },
  });
}

/** What an image from that URL is found by; null for what is no URL of one. */
function keyOfUrl(text: string): string | null {
  if (!/^(?:https?|oci):/i.test(text)) return null;
  return addressOf(text).key;
}

function rowsOf(image: ImageDescription): readonly (readonly [string, string])[] {
  const file = [
    ['path', image.path],
    ['file', bytesText(image.fileBytes)],
    ['on disk', bytesText(image.diskBytes)],
  ] as const;
  if (!image.usable) {
    return [...file, ['usable', `no: ${image.problem}`], ['next', orDash(image.hint ?? '')]];
  }
  const details: readonly (readonly [string, string | null])[] = [
    ['clusters', image.clusterBytes === null ? null : bytesText(image.clusterBytes)],
    ['compatibility', image.compatibility],
    ['compression', image.compression],
    ['snapshots', image.snapshots.length === 0 ? null : image.snapshots.join(', ')],
  ];
  return [
    ...file,
    ['usable', 'yes'],
    ['format', image.format],
    ['disk', bytesText(image.virtualBytes)],
    ...details.flatMap(([label, value]) => (value === null ? [] : [[label, value] as const])),
  ];
}

function originRows(
  origin: { readonly url: string; readonly names: readonly string[]; readonly usedBy: readonly string[] } | null,
): readonly (readonly [string, string])[] {
  if (origin === null) return [];
  return [
    ['URL', origin.url],
    ['names', orDash(origin.names.join(', '))],
    ['used by', orDash(origin.usedBy.join(', '))],
  ];
}

function orDash(text: string): string {
  return text === '' ? '-' : text;
}
