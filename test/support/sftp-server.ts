/** The file side of the fake SSH server: the requests that vmctl makes, on real files (draft-ietf-secsh-filexfer-02). */
import type { Stats } from 'node:fs';
import { type FileHandle, chmod, lstat, mkdir, open, readdir, readlink, stat, symlink, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import ssh2, { type SFTPWrapper } from 'ssh2';

const { STATUS_CODE, OPEN_MODE } = ssh2.utils.sftp;

export interface FileServer {
  /** Where a path that a client names is on this host. */
  readonly locate: (path: string) => string;
  /** Called for a request with a handle that was closed before. */
  readonly onStray: () => void;
}

type Handle = { readonly file: FileHandle } | { readonly folder: string; listed: boolean };

class Handles {
  readonly #open = new Map<number, Handle>();
  readonly #onStray: () => void;
  #count = 0;

  constructor(onStray: () => void) {
    this.#onStray = onStray;
  }

  add(handle: Handle): Buffer {
    this.#count += 1;
    this.#open.set(this.#count, handle);
    const name = Buffer.alloc(4);
    name.writeUInt32BE(this.#count);
    return name;
  }

  get(name: Buffer): Handle {
    const handle = this.#open.get(name.readUInt32BE());
    if (handle !== undefined) return handle;
    this.#onStray();
    throw new Error('no such handle');
  }

  file(name: Buffer): FileHandle {
    const handle = this.get(name);
    if ('file' in handle) return handle.file;
    throw new Error('that is a folder');
  }

  async close(name: Buffer): Promise<void> {
    const handle = this.get(name);
    this.#open.delete(name.readUInt32BE());
    if ('file' in handle) await handle.file.close();
  }

  closeAll(): void {
    for (const handle of this.#open.values()) if ('file' in handle) void handle.file.close();
    this.#open.clear();
  }
}

/** Serves one session. */
export function serveFiles(sftp: SFTPWrapper, server: FileServer): void {
  const handles = new Handles(server.onStray);
  const answer = (id: number, work: () => Promise<void>): void => {
    work().catch((error: unknown) => sftp.status(id, statusOf(error)));
  };
  const does = (id: number, work: () => Promise<unknown>): void =>
    answer(id, async () => {
      await work();
      sftp.status(id, STATUS_CODE.OK);
    });
  sftp.on('error', () => {});
  sftp.on('close', () => handles.closeAll());
  serveContents(sftp, { handles, answer, does, locate: server.locate });
  servePaths(sftp, { handles, answer, does, locate: server.locate });
}

interface Desk {
  readonly handles: Handles;
  readonly answer: (id: number, work: () => Promise<void>) => void;
  /** For requests whose answer is that they were done. */
  readonly does: (id: number, work: () => Promise<unknown>) => void;
  readonly locate: (path: string) => string;
}

function serveContents(sftp: SFTPWrapper, { handles, answer, does, locate }: Desk): void {
  sftp.on('OPEN', (id, path, flags, attributes) =>
    answer(id, async () => {
      const file = await open(locate(path), (flags & OPEN_MODE.WRITE) === 0 ? 'r' : 'w', attributes.mode);
      sftp.handle(id, handles.add({ file }));
    }),
  );
  sftp.on('READ', (id, handle, offset, length) =>
    answer(id, async () => {
      const { bytesRead, buffer } = await handles.file(handle).read(Buffer.alloc(length), 0, length, offset);
      if (bytesRead === 0) sftp.status(id, STATUS_CODE.EOF);
      else sftp.data(id, buffer.subarray(0, bytesRead));
    }),
  );
  sftp.on('WRITE', (id, handle, offset, bytes) =>
    does(id, () => handles.file(handle).write(bytes, 0, bytes.length, offset)),
  );
  sftp.on('FSETSTAT', (id, handle, attributes) => does(id, () => handles.file(handle).chmod(attributes.mode)));
  sftp.on('FSTAT', (id, handle) =>
    answer(id, async () => sftp.attrs(id, attributesOf(await handles.file(handle).stat()))),
  );
  sftp.on('CLOSE', (id, handle) => does(id, () => handles.close(handle)));
}

function servePaths(sftp: SFTPWrapper, { handles, answer, does, locate }: Desk): void {
  sftp.on('SETSTAT', (id, path, attributes) => does(id, () => chmod(locate(path), attributes.mode)));
  sftp.on('STAT', (id, path) => answer(id, async () => sftp.attrs(id, attributesOf(await stat(locate(path))))));
  sftp.on('LSTAT', (id, path) => answer(id, async () => sftp.attrs(id, attributesOf(await lstat(locate(path))))));
  sftp.on('MKDIR', (id, path) => does(id, () => mkdir(locate(path))));
  sftp.on('REMOVE', (id, path) => does(id, () => unlink(locate(path))));
  // The order that OpenSSH's sftp-server has, whatever the draft says.
  sftp.on('SYMLINK', (id, content, path) => does(id, () => symlink(content, locate(path))));
  sftp.on('READLINK', (id, path) =>
    answer(id, async () => {
      const attrs = attributesOf(await lstat(locate(path)));
      sftp.name(id, [{ filename: await readlink(locate(path)), longname: '', attrs }]);
    }),
  );
  sftp.on('OPENDIR', (id, path) =>
    answer(id, async () => {
      await readdir(locate(path));
      sftp.handle(id, handles.add({ folder: locate(path), listed: false }));
    }),
  );
  sftp.on('READDIR', (id, name) =>
    answer(id, async () => {
      const handle = handles.get(name);
      if (!('folder' in handle)) throw new Error('that is a file');
      if (handle.listed) {
        sftp.status(id, STATUS_CODE.EOF);
        return;
      }
      handle.listed = true;
      const entries = ['.', '..', ...(await readdir(handle.folder))].map(async (filename) => ({
        filename,
        longname: '',
        attrs: attributesOf(await lstat(join(handle.folder, filename))),
      }));
      sftp.name(id, await Promise.all(entries));
    }),
  );
}

function attributesOf({ mode, uid, gid, size, atimeMs, mtimeMs }: Stats) {
  return { mode, uid, gid, size, atime: atimeMs / 1000, mtime: mtimeMs / 1000 };
}

function statusOf(error: unknown): number {
  const code = error instanceof Error && 'code' in error ? error.code : null;
  if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP') return STATUS_CODE.NO_SUCH_FILE;
  return code === 'EACCES' || code === 'EPERM' ? STATUS_CODE.PERMISSION_DENIED : STATUS_CODE.FAILURE;
}
