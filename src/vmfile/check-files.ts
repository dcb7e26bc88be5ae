/** Whether the files that a project needs are there, and are what they should be. */
import { constants } from 'node:fs';
import { access, open, readdir, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { errorCode } from '../util/fs.js';
import { type Diagnostic, Findings, type Severity } from './diagnostic.js';
import { publicKeyProblem } from './public-key.js';
import type { FileRole, NeededFile } from './resolve.js';
import { didYouMean } from './suggest.js';

/** What is asked of the file system. The default asks the real one; errors carry Node's codes. */
export interface FileLooker {
  /** What a path leads to, links followed. */
  kind(path: string): Promise<'file' | 'folder' | 'other'>;
  list(folder: string): Promise<readonly string[]>;
  /** The first bytes of a file as text; rejects when it cannot be read. */
  start(path: string): Promise<string>;
}

const ROLES: Readonly<Record<FileRole, string>> = {
  image: 'image',
  'checksum-list': 'checksum list',
  'ssh-key': 'public key',
  'private-key': 'private key',
  'user-data': 'user-data document',
  'network-config': 'network-config document',
  script: 'script',
  source: 'source',
};

/** Looks at every needed file, each path once, and reports what is missing, unreadable or of the wrong kind. */
export async function checkFiles(
  files: readonly NeededFile[],
  looker: FileLooker = FILE_SYSTEM,
): Promise<readonly Diagnostic[]> {
  const findings = new Findings();
  const unique = new Map(files.map((file) => [keyOf(file), file]));
  const looks = Array.from(unique, async ([key, file]) => [key, await look(file, looker)] as const);
  const problems = new Map(await Promise.all(looks));
  for (const file of files) {
    const problem = problems.get(keyOf(file)) ?? null;
    if (problem === null) continue;
    const { message, hint, severity } = problem;
    findings[severity ?? 'error']({ code: 'file', message, span: file.span, hint });
  }
  return findings.diagnostics;
}

function keyOf({ role, path, lan }: NeededFile): string {
  return `${role} ${path} ${lan?.mac ?? ''}`;
}

interface Problem {
  /** Default `error`. */
  readonly severity?: Severity;
  readonly message: string;
  readonly hint?: string | undefined;
}

async function look(file: NeededFile, looker: FileLooker): Promise<Problem | null> {
  const name = ROLES[file.role];
  try {
    const kind = await looker.kind(file.path);
    if (kind === 'folder') return folderProblem(file);
    if (kind === 'other') return { message: `the ${name} ${file.path} is neither a file nor a folder` };
    const start = await looker.start(file.path);
    return keyProblem(file, start) ?? lanProblem(file, start);
  } catch (error) {
    return await errorProblem(file, { error, looker });
  }
}

function folderProblem({ role, path }: NeededFile): Problem | null {
  if (role === 'source') return null;
  return { message: `the ${ROLES[role]} ${path} is a folder`, hint: 'name a file in it' };
}

/** Taking one half of a key pair for the other is common, and late to find out. */
function keyProblem({ role, path }: NeededFile, start: string): Problem | null {
  const isPrivate = /^-----BEGIN [A-Z ]*PRIVATE KEY-----/m.test(start);
  if (role === 'ssh-key' && isPrivate) {
    return {
      message: `${path} is a private key, and \`ssh-key\` wants the public one`,
      hint: `did you mean "${basename(path)}.pub"?`,
    };
  }
  const problem = role === 'ssh-key' ? publicKeyProblem(start) : null;
  if (problem !== null) {
    const example = 'ssh-ed25519 AAAAC3… me@host';
    return {
      message: `${path} ${problem}`,
      hint: `a public key is one line such as "${example}", usually in a file that ends in .pub; ssh-keygen -t ed25519 makes a pair`,
    };
  }
  if (role === 'private-key' && !isPrivate && /^(?:ssh|ecdsa|sk)-\S+ [A-Za-z0-9+/]/.test(start)) {
    const hint = path.endsWith('.pub') ? `did you mean "${basename(path, '.pub')}"?` : undefined;
    return { message: `${path} is a public key, and \`private-key\` wants the private one`, hint };
  }
  return null;
}

/** Nothing else configures the card, so a document that does not speak of it was probably written before the LAN. */
function lanProblem({ path, lan }: NeededFile, start: string): Problem | null {
  if (lan === undefined || lan === null) return null;
  const text = start.toLowerCase();
  if (text.includes(lan.mac) || text.includes(lan.address)) return null;
  return {
    severity: 'warning',
    message: `${path} does not speak of the card on LAN "${lan.name}", which then stays as it is`,
    hint: `the card with the MAC ${lan.mac} is to have the address ${lan.address}/24, and no gateway`,
  };
}

async function errorProblem(
  { role, path }: NeededFile,
  { error, looker }: { readonly error: unknown; readonly looker: FileLooker },
): Promise<Problem> {
  const name = ROLES[role];
  switch (errorCode(error)) {
    case 'ENOENT':
    case 'ENOTDIR':
      return { message: `the ${name} ${path} does not exist`, hint: await nearName(path, looker) };
    case 'EACCES':
    case 'EPERM':
      return {
        message: `the ${name} ${path} cannot be read: permission denied`,
        hint: 'check who owns it and its permissions',
      };
    case 'ELOOP':
      return { message: `the ${name} ${path} is a symbolic link that leads to itself` };
    case null:
    default:
      return {
        message: `the ${name} ${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`,
      };
  }
}

async function nearName(path: string, looker: FileLooker): Promise<string | undefined> {
  const folder = dirname(path);
  try {
    return didYouMean(basename(path), await looker.list(folder), '"');
  } catch (error) {
    if (errorCode(error) === null) throw error;
    return `the folder ${folder} does not exist either`;
  }
}

/** More than any public key has. */
const START_BYTES = 16 * 1024;

const FILE_SYSTEM: FileLooker = {
  async kind(path) {
    const found = await stat(path);
    if (found.isDirectory()) return 'folder';
    return found.isFile() ? 'file' : 'other';
  },
  list: (folder) => readdir(folder),
  async start(path) {
    await access(path, constants.R_OK);
    await using file = await open(path);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(START_BYTES), 0, START_BYTES, 0);
    return buffer.toString('latin1', 0, bytesRead);
  },
};
