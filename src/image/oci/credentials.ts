/**
 * Who the user is for a registry, as docker's command line remembers it: `config.json` and the programs that keep
 * passwords for it. Nothing that is secret gets into an error; what a damaged file or a failing program said is
 * therefore not quoted where it may hold one.
 */
import { Buffer } from 'node:buffer';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { VmctlError } from '../../errors.js';
import { type CommandRunner, runCommand } from '../../util/exec.js';
import { errorCode, isMissing } from '../../util/fs.js';
import type { Environment } from '../http.js';
import type { OciReference } from './reference.js';

export type Credentials = {
  /** Where they were found, for messages. */
  readonly from: string;
} & (
  | { readonly kind: 'password'; readonly username: string; readonly password: string }
  /** An OAuth2 refresh token, which docker calls identity token. */
  | { readonly kind: 'refresh-token'; readonly token: string }
);

export interface CredentialOptions {
  /** Where `DOCKER_CONFIG` and `GITHUB_TOKEN` are looked for. */
  readonly environment: Environment;
  /** The user's home directory. */
  readonly home: string;
  readonly signal: AbortSignal;
  readonly run?: CommandRunner;
}

type Registry = Pick<OciReference, 'registry'>;

const Auth = v.object({
  auth: v.nullish(v.string(), ''),
  username: v.nullish(v.string(), ''),
  password: v.nullish(v.string(), ''),
  identitytoken: v.nullish(v.string(), ''),
});

const Config = v.object({
  auths: v.nullish(v.record(v.string(), Auth), {}),
  credHelpers: v.nullish(v.record(v.string(), v.string()), {}),
  credsStore: v.nullish(v.string(), ''),
});

const HelperAnswer = v.object({ Username: v.string(), Secret: v.string() });

/** What a helper says instead of an answer (github.com/docker/docker-credential-helpers, credentials/error.go). */
const NOT_FOUND = 'credentials not found in native keychain';
/** The user name that says that the secret is an identity token (docker login's documentation, "Credential helpers"). */
const TOKEN_USER = '<token>';
/** It becomes a part of a program's name. */
const HELPER_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;
const DOCKER_HUB = 'docker.io';

/**
 * The user's credentials for a registry; null where there are none. `GITHUB_TOKEN` is for ghcr.io alone, and only
 * where docker knows nothing. Throws `CONFIG_INVALID` for a damaged `config.json`, `COMMAND_FAILED` and
 * `HOST_UNSUPPORTED` for a credential helper that does not answer, `ABORTED`.
 */
export async function findCredentials(reference: Registry, options: CredentialOptions): Promise<Credentials | null> {
  const path = configPath(options);
  const config = await readConfig(path);
  const keys = credentialKeys(reference);
  const own = keys.find((key) => Object.hasOwn(config.credHelpers, key));
  const helper = (own === undefined ? undefined : config.credHelpers[own]) ?? config.credsStore;
  const kept = helper === '' ? null : await askHelper(helper, { server: keys[0], path }, options);
  return kept ?? storedCredentials(config, { keys, path }) ?? githubToken(reference, options.environment);
}

/** What `docker login` is told to log in to this registry. */
export function loginCommand({ registry }: Registry): string {
  return registry === DOCKER_HUB ? 'docker login' : `docker login ${registry}`;
}

/** What credentials of a registry are kept under, the usual name first. */
function credentialKeys({ registry }: Registry): readonly [string, ...string[]] {
  if (registry !== DOCKER_HUB) return [registry];
  return ['https://index.docker.io/v1/', DOCKER_HUB, 'index.docker.io', 'registry-1.docker.io'];
}

function configPath({ environment, home }: CredentialOptions): string {
  const directory = environment['DOCKER_CONFIG'] ?? '';
  return join(directory === '' ? join(home, '.docker') : directory, 'config.json');
}

async function readConfig(path: string): Promise<v.InferOutput<typeof Config>> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (isMissing(error)) return v.parse(Config, {});
    throw configError(path, `cannot be read (${errorCode(error)})`);
  }
  if (text.trim() === '') return v.parse(Config, {});
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    // The parser's words quote what it did not understand, which may be a password.
    throw configError(path, 'is not JSON');
  }
  const config = v.safeParse(Config, document);
  if (config.success) return config.output;
  const where = v.getDotPath(config.issues[0]);
  throw configError(path, `has something unexpected${where === null ? '' : ` at ${where}`}`);
}

/** What `auths` holds of a registry, whose key may also be written as a URL. */
function storedCredentials(
  { auths }: v.InferOutput<typeof Config>,
  { keys, path }: { readonly keys: readonly string[]; readonly path: string },
): Credentials | null {
  const hosts = keys.map(hostOf);
  const names = Object.keys(auths);
  const name = names.find((key) => keys.includes(key)) ?? names.find((key) => hosts.includes(hostOf(key)));
  const entry = name === undefined ? undefined : auths[name];
  if (entry === undefined) return null;
  if (entry.identitytoken !== '') return { kind: 'refresh-token', token: entry.identitytoken, from: path };
  if (entry.auth === '') {
    if (entry.username === '') return null;
    return { kind: 'password', username: entry.username, password: entry.password, from: path };
  }
  // Old versions of docker end the password with NUL.
  const plain = Buffer.from(entry.auth, 'base64').toString('utf8').replace(/\0+$/, '');
  const colon = plain.indexOf(':');
  if (colon < 1) throw configError(path, `has a damaged "auth" for ${name}`);
  return { kind: 'password', username: plain.slice(0, colon), password: plain.slice(colon + 1), from: path };
}

function hostOf(key: string): string {
  return key
    .replace(/^https?:\/\//i, '')
    .replace(/\/.*$/s, '')
    .toLowerCase();
}

/** Asks a credential helper: the server's name on stdin, and JSON on stdout. */
async function askHelper(
  name: string,
  { server, path }: { readonly server: string; readonly path: string },
  { signal, run = runCommand }: CredentialOptions,
): Promise<Credentials | null> {
  if (!HELPER_NAME.test(name)) throw configError(path, `names ${JSON.stringify(name)} as a credential helper`);
  const program = `docker-credential-${name}`;
  let output: string;
  try {
    ({ stdout: output } = await run(program, ['get'], { input: server, signal }));
  } catch (error) {
    if (!(error instanceof VmctlError) || error.code === 'ABORTED') throw error;
    if (`${error.message}\n${error.details}`.includes(NOT_FOUND)) return null;
    throw helperError(error, { program, path, server });
  }
  const answer = readAnswer(output);
  if (answer === null) {
    const failed = new VmctlError('COMMAND_FAILED', `${program} gave no credentials that can be read`);
    throw helperError(failed, { program, path, server });
  }
  if (answer.Username === '' && answer.Secret === '') return null;
  if (answer.Username === TOKEN_USER) return { kind: 'refresh-token', token: answer.Secret, from: program };
  return { kind: 'password', username: answer.Username, password: answer.Secret, from: program };
}

function readAnswer(output: string): v.InferOutput<typeof HelperAnswer> | null {
  try {
    return v.parse(HelperAnswer, JSON.parse(output));
  } catch {
    return null;
  }
}

function githubToken({ registry }: Registry, environment: Environment): Credentials | null {
  const token = environment['GITHUB_TOKEN'] ?? '';
  if (registry !== 'ghcr.io' || token === '') return null;
  // ghcr.io takes any user name with a token.
  return { kind: 'password', username: 'x-access-token', password: token, from: 'GITHUB_TOKEN' };
}

interface AskedHelper {
  readonly program: string;
  readonly path: string;
  readonly server: string;
}

/** The failure without the program's own words where these look like an answer, with a password in it. */
function helperError(error: VmctlError, { program, path, server }: AskedHelper): VmctlError {
  const quotable = !/[{}]/.test(error.message);
  return new VmctlError(error.code, quotable ? error.message : `${program} failed`, {
    hint: `${path} names it for ${server}: run "echo ${server} | ${program} get", or take it out of that file.`,
    fields: { program, path },
  });
}

function configError(path: string, problem: string): VmctlError {
  return new VmctlError('CONFIG_INVALID', `docker's ${path} ${problem}`, {
    hint: 'Correct that file, or log in again: docker login REGISTRY.',
    fields: { path },
  });
}
