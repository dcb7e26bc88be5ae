/**
 * Loaded before vmctl (`node --import`): ends it at the n-th change that it makes to the file system, or just before the
 * n-th program that it starts. `VMCTL_FAULT_AT` is n, and `VMCTL_FAULT` says how it ends:
 *
 * - `SIGKILL`: at once. Of a text that is being written half is there.
 * - `SIGTERM`, `SIGINT`: as the signal comes, which vmctl handles.
 * - `power`: the host loses its power. Names are as they are, for file systems keep their order, but what was written to
 *   a file and never synced is lost: the file is there, and empty, as ext4 and XFS leave it.
 *
 * `VMCTL_FAULT_TRACE` names a file to which each change is added as a line; what is counted there can be n.
 */
import childProcess from 'node:child_process';
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { resolve, sep } from 'node:path';

const { VMCTL_FAULT: kind = 'SIGKILL', VMCTL_FAULT_TRACE: trace } = process.env;
const at = Number(process.env.VMCTL_FAULT_AT ?? 0);
// What vmctl starts is not to end at the same point.
for (const name of ['VMCTL_FAULT', 'VMCTL_FAULT_AT', 'VMCTL_FAULT_TRACE', 'NODE_OPTIONS']) delete process.env[name];

let count = 0;
/** Files that were written and not synced since. */
const unsynced = new Set();
const real = { ...fs.promises };
const { appendFileSync, truncateSync, writeFileSync } = fs;

function change(what, path, text = null) {
  count += 1;
  if (trace !== undefined) appendFileSync(trace, `${what} ${path}\n`);
  if (count !== at) return;
  if (kind === 'SIGTERM' || kind === 'SIGINT') {
    process.kill(process.pid, kind);
    return;
  }
  if (kind === 'power') for (const file of unsynced) lose(file);
  else if (text !== null) writeFileSync(path, text.subarray(0, text.length / 2));
  process.kill(process.pid, 'SIGKILL');
  for (;;);
}

function lose(file) {
  try {
    truncateSync(file, 0);
  } catch (error) {
    // A change that is under way has removed or renamed it.
    if (error.code !== 'ENOENT') throw error;
  }
}

const bytesOf = (content) =>
  typeof content === 'string' || content instanceof Uint8Array ? Buffer.from(content) : null;

/** Forgets what was at a path, and below it; gives its files. */
function forget(path) {
  const files = [...unsynced].filter((file) => file === path || file.startsWith(path + sep));
  for (const file of files) unsynced.delete(file);
  return files;
}

Object.assign(fs.promises, {
  async writeFile(file, content, ...rest) {
    const path = typeof file === 'string' ? resolve(file) : null;
    if (path !== null) {
      change('write', path, bytesOf(content));
      unsynced.add(path);
    }
    return real.writeFile(file, content, ...rest);
  },
  async open(path, flags = 'r', ...rest) {
    const file = resolve(path);
    const isWritten = /[wa+]/.test(flags);
    if (isWritten) change('open', file);
    const handle = await real.open(path, flags, ...rest);
    const original = {
      sync: handle.sync.bind(handle),
      write: handle.write.bind(handle),
      writeFile: handle.writeFile.bind(handle),
    };
    handle.sync = async () => {
      change('sync', file);
      await original.sync();
      unsynced.delete(file);
    };
    if (!isWritten) return handle;
    handle.writeFile = (content, ...more) => {
      change('write', file, bytesOf(content));
      unsynced.add(file);
      return original.writeFile(content, ...more);
    };
    handle.write = (...words) => {
      unsynced.add(file);
      return original.write(...words);
    };
    return handle;
  },
  async rename(from, to) {
    change('rename', `${from} ${to}`);
    await real.rename(from, to);
    forget(resolve(to));
    for (const file of forget(resolve(from))) unsynced.add(resolve(to) + file.slice(resolve(from).length));
  },
  async rm(path, ...rest) {
    change('rm', path);
    await real.rm(path, ...rest);
    forget(resolve(path));
  },
});
for (const name of ['mkdir', 'symlink', 'link', 'unlink', 'chmod', 'rmdir', 'truncate', 'utimes', 'copyFile']) {
  fs.promises[name] = async (...words) => {
    change(name, String(words[0]));
    return real[name](...words);
  };
}
const { spawn } = childProcess;
childProcess.spawn = (program, ...rest) => {
  change('spawn', program);
  return spawn(program, ...rest);
};
syncBuiltinESMExports();
