/** The file that `--timeline` names: looked at before anything starts, written at the end, however that was. */
import { access, constants, open, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, extname, resolve } from 'node:path';
import type { EventHub } from '../../../tasks/context.js';
import { VmctlError } from '../../errors.js';
import { errorCode, exists } from '../../util/fs.js';
import type { Cli } from '../cli.js';
import { printNote } from '../report.js';
import { History } from './history.js';
import { PAGE_STYLE } from './look.js';
import { escapeMarkup } from './markup.js';
import { drawTimeline } from './picture.js';

/** Runs the work and draws its events. Throws `OUTPUT` before it, when the file cannot be written, or after it. */
export async function withTimeline<T>(
  cli: Cli,
  request: { readonly events: EventHub; readonly file: string; readonly title: string },
  work: () => Promise<T>,
): Promise<T> {
  const { events, file, title } = request;
  const path = resolve(cli.cwd, file);
  await assertWritable(path);
  const history = new History();
  const unsubscribe = events.subscribe((event) => history.add(event));
  try {
    return await work();
  } finally {
    unsubscribe();
    await write(
      path,
      extname(path) === '.html' ? page(drawTimeline(history, { title }), title) : drawTimeline(history, { title }),
    );
    printNote(cli, `the timeline is in ${file}`);
  }
}

/** Leaves what is there as it is: should this process be killed, an older picture is still whole. */
async function assertWritable(path: string): Promise<void> {
  try {
    if (await isThere(path)) await access(path, constants.W_OK);
    else {
      await (await open(path, 'wx')).close();
      await rm(path);
    }
  } catch (error) {
    throw await unwritable(path, error);
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    if (!(await stat(path)).isDirectory()) return true;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return false;
    throw error;
  }
  throw new Error('it is a folder');
}

async function write(path: string, text: string): Promise<void> {
  try {
    await writeFile(path, text);
  } catch (error) {
    throw await unwritable(path, error);
  }
}

const HINTS: Readonly<Record<string, string>> = {
  EACCES: 'Check the permissions there, or name another place.',
  EROFS: 'That file system is read-only; name another place.',
  ENOSPC: 'Free some space there, or name another place.',
};

async function unwritable(path: string, error: unknown): Promise<VmctlError> {
  const code = errorCode(error) ?? '';
  const words = error instanceof Error ? error.message : String(error);
  const missing = code === 'ENOENT' && !(await exists(dirname(path)));
  const reason = missing ? `the folder ${dirname(path)} does not exist` : words;
  return new VmctlError('OUTPUT', `cannot write the timeline ${path}: ${reason}`, {
    hint: missing ? `Create it with: mkdir -p ${dirname(path)}` : (HINTS[code] ?? 'Name a file that can be written.'),
    cause: error,
    fields: { path },
  });
}

function page(picture: string, title: string): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escapeMarkup(title)}</title>
<style>${PAGE_STYLE}</style>
${picture}</html>
`;
}
