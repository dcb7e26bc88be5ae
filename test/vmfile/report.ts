/** What a user is told about a VMFile, in a project folder with a few known files. */
import type { SourceFile } from '../../src/model/source.js';
import { checkFiles, type FileLooker } from '../../src/vmfile/check-files.js';
import { type Diagnostic, renderDiagnostics, sortDiagnostics } from '../../src/vmfile/diagnostic.js';
import { parseVmFile } from '../../src/vmfile/parse.js';
import { type ResolveOptions, resolveProject } from '../../src/vmfile/resolve.js';

export const PROJECT = '/project';

export const OPTIONS: ResolveOptions = {
  home: '/home/me',
  presets: {
    names: ['debian-12', 'debian-13', 'ubuntu-24.04'],
    find: (name) =>
      name === 'debian-12'
        ? {
            url: 'https://cloud.example.org/debian-12.qcow2',
            checksum: { algorithm: 'list', url: 'https://cloud.example.org/SHA256SUMS' },
            user: 'debian',
            firmware: 'uefi',
          }
        : undefined,
  },
};

const FILES: Readonly<Record<string, string>> = {
  '/project/disk.qcow2': 'QFI\u00fb',
  '/project/setup.sh': '#!/bin/sh\n',
  '/project/site.conf': 'listen 80;\n',
  '/project/user-data.yaml': '#cloud-config\n',
  '/project/network.yaml': 'version: 2\n',
  '/project/id_ed25519': '-----BEGIN OPENSSH PRIVATE KEY-----\n',
  '/project/id_ed25519.pub': 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me@host\n',
  '/project/images/web.qcow2': 'QFI\u00fb',
  '/project/SHA256SUMS': '',
};

/** The files of `FILES`, and `secret.sh`, which nobody may read. */
export const looker: FileLooker = {
  kind: async (path) => {
    if (path === '/project/secret.sh' || FILES[path] !== undefined) return 'file';
    if (Object.keys(FILES).some((file) => file.startsWith(`${path}/`))) return 'folder';
    throw systemError('ENOENT');
  },
  list: async (folder) => {
    const names = Object.keys(FILES).flatMap((file) =>
      file.startsWith(`${folder}/`) ? [file.slice(folder.length + 1)] : [],
    );
    if (names.length === 0) throw systemError('ENOENT');
    return names.map((name) => name.split('/', 1).join(''));
  },
  start: async (path) => {
    const text = FILES[path];
    if (text === undefined) throw systemError('EACCES');
    return text;
  },
};

export function systemError(code: string): Error {
  return Object.assign(new Error(code), { code });
}

export function sourceOf(text: string): SourceFile {
  return { path: `${PROJECT}/VMFile.kdl`, text };
}

/** Everything that parsing, resolving and looking at the files find. */
export async function diagnose(source: SourceFile): Promise<readonly Diagnostic[]> {
  const parsed = parseVmFile(source);
  const resolved = resolveProject(parsed.project, OPTIONS);
  const files = await checkFiles(resolved.files, looker);
  return sortDiagnostics([...parsed.diagnostics, ...resolved.diagnostics, ...files]);
}

/** The same as the text that a user sees. */
export async function report(text: string): Promise<string> {
  const source = sourceOf(text);
  return renderDiagnostics(source, await diagnose(source), { color: false, cwd: PROJECT });
}
