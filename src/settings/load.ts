/**
 * Settings: flags, then `VMCTL_*` variables, then the project's configuration file, then the user's, then defaults.
 * The only importer of cosmiconfig.
 */
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { type Loader, cosmiconfig } from 'cosmiconfig';
import * as v from 'valibot';
import { VmctlError } from '../errors.js';
import { didYouMean } from '../vmfile/suggest.js';
import { SETTING_KEYS, type Settings, settingsSchema, variableOf } from './keys.js';

const SCRIPT_EXTENSIONS = ['.js', '.mjs', '.cjs', '.ts', '.mts', '.cts'] as const;

/** Where settings are looked for. */
export interface SettingsSources {
  readonly variables: Readonly<Record<string, string | undefined>>;
  readonly home: string;
  /** The project's configuration file is looked for from here upwards. */
  readonly cwd: string;
}

/** Reads all sources. Throws `CONFIG_INVALID`, naming the file or variable, the key and what was expected. */
export async function loadSettings(outside: SettingsSources): Promise<Settings> {
  const project = await readConfig(outside.cwd, PROJECT_PLACES, 'project');
  const user = await readConfig(join(configHome(outside), 'vmctl'), USER_PLACES, 'none');
  return { ...user, ...project, ...fromVariables(outside.variables) };
}

const PROJECT_PLACES = [
  'package.json',
  '.vmctlrc',
  ...['.json', '.yaml', '.yml'].map((extension) => `.vmctlrc${extension}`),
  ...SCRIPT_EXTENSIONS.map((extension) => `vmctl.config${extension}`),
];

const USER_PLACES = ['.json', '.yaml', '.yml', ...SCRIPT_EXTENSIONS].map((extension) => `config${extension}`);

async function readConfig(
  from: string,
  searchPlaces: readonly string[],
  searchStrategy: 'project' | 'none',
): Promise<Settings> {
  const loaders = Object.fromEntries(SCRIPT_EXTENSIONS.map((extension) => [extension, loadScript]));
  const explorer = cosmiconfig('vmctl', { searchPlaces: [...searchPlaces], searchStrategy, loaders });
  const found = await explorer.search(from).catch((cause: unknown) => {
    const words = cause instanceof Error ? cause.message : String(cause);
    throw new VmctlError('CONFIG_INVALID', `a configuration file cannot be read: ${words}`, { cause });
  });
  if (found === null || found.isEmpty === true) return {};
  return fromFolder(checkSettings(found.config, found.filepath), dirname(found.filepath));
}

/** Relative paths in a configuration file are meant from where it lies. */
function fromFolder(settings: Settings, folder: string): Settings {
  const { file, 'qemu.binary': binary } = settings;
  return {
    ...settings,
    ...(file === undefined ? {} : { file: resolve(folder, file) }),
    // A bare name is looked for in PATH.
    ...(binary?.includes('/') === true ? { 'qemu.binary': resolve(folder, binary) } : {}),
  };
}

/** cosmiconfig's own loader for TypeScript needs a compiler that not every project has. */
const loadScript: Loader = async (path) => {
  const { createJiti } = await import('jiti');
  return createJiti(import.meta.url).import(path, { default: true });
};

/** Holds a configuration file's content against the settings that there are. */
export function checkSettings(content: unknown, path: string): Settings {
  const values = flatten(content, path);
  for (const [key] of values) {
    if (SETTING_KEYS.some((known) => known === key)) continue;
    throw new VmctlError('CONFIG_INVALID', `${path} has an unknown key "${key}"`, {
      hint: didYouMean(key, SETTING_KEYS, '"') ?? `The keys are: ${SETTING_KEYS.join(', ')}.`,
      fields: { path, key },
    });
  }
  return validated(Object.fromEntries(values), (key) => `"${key}" in ${path}`);
}

function validated(values: Readonly<Record<string, unknown>>, placeOf: (key: string) => string): Settings {
  const result = v.safeParse(settingsSchema, values);
  if (result.success) return result.output;
  const [issue] = result.issues;
  const key = v.getDotPath(issue) ?? '';
  const found = JSON.stringify(values[key]);
  throw new VmctlError('CONFIG_INVALID', `${placeOf(key)} must be ${issue.message}, and is ${found}`, {
    fields: { key },
  });
}

/** `{ qemu: { binary: 'x' } }` as `qemu.binary` = `x`. */
function flatten(content: unknown, path: string, prefix = ''): readonly (readonly [string, unknown])[] {
  if (typeof content !== 'object' || content === null || Array.isArray(content)) {
    if (prefix !== '') return [[prefix, content]];
    throw new VmctlError('CONFIG_INVALID', `${path} must hold an object of settings`, { fields: { path } });
  }
  return Object.entries(content).flatMap(([key, value]) =>
    flatten(value, path, prefix === '' ? key : `${prefix}.${key}`),
  );
}

function fromVariables(variables: Readonly<Record<string, string | undefined>>): Settings {
  const given = SETTING_KEYS.flatMap((key) => {
    const value = variables[variableOf(key)];
    return value === undefined || value === '' ? [] : [[key, value] as const];
  });
  const nameOf = (key: string) => SETTING_KEYS.filter((known) => known === key).map(variableOf);
  return validated(Object.fromEntries(given), (key) => `the variable ${nameOf(key).join()}`);
}

function configHome({ variables, home }: SettingsSources): string {
  const declared = variables['XDG_CONFIG_HOME'];
  return declared !== undefined && isAbsolute(declared) ? declared : join(home, '.config');
}
