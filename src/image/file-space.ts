/** What a file takes on the disk, apart from its size: space that is its own before it is written, or given back. */
import * as v from 'valibot';
import { type QemuImgOptions, qemuImg } from './qemu-img.js';
import { runCommand } from '../util/exec.js';

/**
 * Gives a file, whose mode it keeps, zeros of that size and the space for them: it can be written to on a disk that is
 * full by then. Throws `COMMAND_FAILED` where there is too little space or the file system cannot do that,
 * `HOST_UNSUPPORTED` without qemu-img.
 */
export async function reserveSpace(path: string, bytes: number, options: QemuImgOptions = {}): Promise<void> {
  await qemuImg(['create', '-q', '-f', 'raw', '-o', 'preallocation=falloc', '--', path, String(bytes)], options);
}

const mapSchema = v.array(v.object({ start: v.number(), length: v.number(), data: v.boolean() }));

/** Smaller holes between two parts that were written are not worth a place in the file system's tables. */
const SMALLEST_HOLE = 64 * 1024;

/**
 * Gives back the space of what was never written; the content stays the same. What was written has to be synced. Throws
 * `COMMAND_FAILED`, and `HOST_UNSUPPORTED` without qemu-img or qemu-io.
 */
export async function releaseUnwritten(path: string, options: QemuImgOptions = {}): Promise<void> {
  const { stdout } = await qemuImg(['map', '--output=json', '-f', 'raw', '--', path], options);
  const holes = v
    .parse(mapSchema, JSON.parse(stdout))
    .filter(({ data, length }) => !data && length >= SMALLEST_HOLE)
    .map(({ start, length }) => `discard ${start} ${length}\n`);
  const { signal, run = runCommand } = options;
  const input = holes.join('');
  if (input === '') return;
  await run('qemu-io', ['-d', 'unmap', '-f', 'raw', '--', path], {
    input,
    ...(signal === undefined ? {} : { signal }),
  });
}
