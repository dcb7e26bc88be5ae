/** The commands about images that look or fetch; what removes is in `collection.ts`. */
import { resolve } from 'node:path';
import { ageText } from '../../tasks/image-policy.js';
import { imageFacts } from '../../tasks/image-use.js';
import { bytesText, progressReader } from '../../tasks/progress-text.js';
import { VmctlError } from '../errors.js';
import { checkImageName, nameImage } from '../image/cache-index.js';
import { fetchImage } from '../image/cache.js';
import { readDiskHeader } from '../image/disk-header.js';
import { type ImageDescription, describeImage } from '../image/inspect.js';
import { inspectImage } from '../image/qemu-img.js';
import { urlKey } from '../image/source.js';
import { exists } from '../util/fs.js';
import { didYouMean } from '../vmfile/suggest.js';
import type { TaskEnvironment } from '../../tasks/context.js';
import type { Cli } from './cli.js';
import { EXIT } from './exit-code.js';
import { pairs, printJson, printNote, table } from './report.js';
import { openReader, openSession } from './session.js';

/** `image pull`: prints the path, or with a name that of the link. */
export async function pull(
  cli: Cli,
  url: string,
  { name, json }: { readonly name?: string; readonly json: boolean },
): Promise<void> {
  if (name !== undefined) checkImageName(name);
  const { env } = await openSession(cli, 'image pull');
  noteProgress(cli, env);
  const reporter = env.events.reporter(null, 'resolve');
  const access = { directory: env.paths.images, command: env.command, signal: cli.signal };
  const path = await fetchImage({ url, checksum: null }, { ...access, reporter, environment: cli.variables });
  const image = await inspectImage(path, { signal: cli.signal });
  const link = name === undefined ? null : await nameImage(name, path, access);
  if (json) {
    printJson(cli, { url, path, name: name ?? null, link, format: image.format, virtualBytes: image.virtualBytes });
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

/** `image list`. */
export async function list(cli: Cli, json: boolean): Promise<void> {
  const env = openReader(cli, 'image list');
  const rows = await Promise.all(
    (await imageFacts(env)).map(async ({ path, record, lastUsedAt, diskBytes, names, users }) => {
      const header = await readDiskHeader(path);
      return {
        names,
        url: record.url,
        path,
        format: header.format,
        diskBytes,
        virtualBytes: header.format === 'unknown' ? null : header.virtualBytes,
        checksum: `sha256:${record.sha256}`,
        fetchedAt: record.fetchedAt,
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
    row.format,
    bytesText(row.diskBytes),
    row.virtualBytes === null ? '-' : bytesText(row.virtualBytes),
    row.checksum.slice(0, 'sha256:'.length + 12),
    `${ageText(Math.max(0, Date.now() - Date.parse(row.lastUsedAt)))} ago`,
    orDash(row.usedBy.join(', ')),
    row.url,
  ]);
  cli.stdout.write(table(header, cells));
}

/** `image inspect`: exit code 1 for a file that vmctl refuses. */
export async function inspect(cli: Cli, image: string, json: boolean): Promise<void> {
  const env = openReader(cli, 'image inspect');
  const known = await imageFacts(env);
  const path = await findImage(cli, env, image);
  const description = await describeImage(path, { signal: cli.signal });
  const cached = known.find((candidate) => candidate.path === path || candidate.path === description.path);
  const origin = cached === undefined ? null : { url: cached.record.url, names: cached.names, usedBy: cached.users };
  if (json) printJson(cli, { ...description, cache: origin });
  else cli.stdout.write(pairs([...rowsOf(description), ...originRows(origin)]));
  if (!description.usable) cli.exitCode = EXIT.failed;
}

/** The path that is meant: a file of that path, else an image of the cache by its URL, its name or its file name. */
export async function findImage(cli: Cli, env: TaskEnvironment, image: string): Promise<string> {
  const path = resolve(cli.cwd, image);
  if (await exists(path)) return path;
  const cached = await imageFacts(env);
  const key = URL.canParse(image) ? urlKey(new URL(image)) : null;
  const found = cached
    .filter(({ record, names }) => record.key === key || record.file.name === image || names.includes(image))
    .toSorted((a, b) => (a.record.fetchedAt < b.record.fetchedAt ? 1 : -1))[0];
  if (found !== undefined) return found.path;
  const hint = didYouMean(
    image,
    cached.flatMap(({ names }) => names),
    '"',
  );
  throw new VmctlError(
    'IMAGE_NOT_FOUND',
    `there is no file ${path}, and no image ${JSON.stringify(image)} in the cache`,
    {
      hint: hint ?? 'The images of the cache: vmctl image list',
      fields: { image },
    },
  );
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
