/** Who may import whom, and who may touch the outside world: the table of the design, held against every source. */
import { readFileSync, readdirSync } from 'node:fs';
import { join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

interface Area {
  readonly path: string;
  readonly mayImport: readonly string[];
  readonly because: string;
}

const LEAVES = ['src/model', 'src/errors', 'src/paths', 'src/util'] as const;
const BACKEND = [
  'src/hypervisor/hypervisor',
  'src/hypervisor/work-directory',
  'src/hypervisor/base-image',
  'src/hypervisor/frozen',
  ...LEAVES,
] as const;
const BACKENDS = ['src/hypervisor/noop', 'src/hypervisor/qemu', 'src/hypervisor/propolis'] as const;
const CHOICE = ['src/hypervisor/router', 'src/hypervisor/hypervisor'] as const;
const WARM = 'src/warm';
const STAGES = ['src/vmfile', 'src/image', 'src/cloud-init', 'src/ssh', 'src/provision', 'src/registry'] as const;

/** Each part of the sources, the longest path first where one is inside another. Every part may import itself. */
const AREAS: readonly Area[] = [
  { path: 'src/errors', mayImport: [], because: 'every other file needs it' },
  { path: 'src/paths', mayImport: [], because: 'names only' },
  { path: 'src/util', mayImport: ['src/errors', 'src/paths'], because: 'it knows nothing of VMs' },
  { path: 'src/model', mayImport: ['src/errors'], because: 'types and legal transitions; a refusal is a VmctlError' },
  { path: 'src/vmfile', mayImport: LEAVES, because: 'parsing and resolving are pure, of nothing but the text' },
  { path: 'src/image', mayImport: LEAVES, because: 'images are there without VMs' },
  { path: 'src/cloud-init', mayImport: LEAVES, because: 'a seed is a pure function of what the guest is to be' },
  { path: 'src/ssh', mayImport: LEAVES, because: 'it knows hosts and keys, and no VMs' },
  {
    path: WARM,
    mayImport: ['src/hypervisor/hypervisor', ...LEAVES],
    because: 'it keeps frozen VMs, whose files a backend makes, and starts none',
  },
  { path: 'src/registry', mayImport: LEAVES, because: 'it remembers what it is told and asks no backend' },
  { path: 'src/provision', mayImport: ['src/ssh', ...LEAVES], because: 'it works in any guest that speaks SSH' },
  {
    path: 'src/hypervisor/hypervisor',
    mayImport: ['src/model', 'src/errors'],
    because: 'an interface stands on types alone',
  },
  {
    path: 'src/hypervisor/work-directory',
    mayImport: ['src/hypervisor/hypervisor', ...LEAVES],
    because: 'what backends share: how a VM’s directory comes and goes',
  },
  {
    path: 'src/hypervisor/base-image',
    mayImport: LEAVES,
    because: 'what backends share: whether a disk still stands on its image',
  },
  {
    path: 'src/hypervisor/frozen',
    mayImport: ['src/hypervisor/hypervisor', 'src/hypervisor/work-directory', ...LEAVES],
    because: 'what backends share: what a frozen VM consists of',
  },
  { path: 'src/hypervisor/noop', mayImport: BACKEND, because: 'a backend knows no other one and never the registry' },
  {
    path: 'src/hypervisor/qemu',
    mayImport: ['src/image/qemu-img', 'src/image/file-space', 'src/cloud-init', ...BACKEND],
    because: 'a backend makes its own disks and seeds, and knows no other one and never the registry',
  },
  {
    path: 'src/hypervisor/propolis',
    mayImport: ['src/image/qemu-img', 'src/cloud-init', ...BACKEND],
    because: 'a backend makes its own disks and seeds, and knows no other one and never the registry',
  },
  {
    path: 'src/hypervisor/router',
    mayImport: ['src/hypervisor/hypervisor', ...BACKENDS, ...LEAVES],
    because: 'the only file that knows the backends',
  },
  {
    path: 'src/settings',
    mayImport: ['src/vmfile', ...LEAVES],
    because: 'settings are read before anything is done, and spelt as in a VMFile',
  },
  {
    path: 'src/lifetime',
    mayImport: ['src/registry', ...CHOICE, ...LEAVES],
    because: 'it ends VMs whatever they were for, in a small process of its own, and knows no graph',
  },
  {
    path: 'tasks',
    mayImport: ['src/settings', 'src/lifetime', ...STAGES, WARM, ...CHOICE, 'presets/images', ...LEAVES],
    because: 'the graph calls every stage, and stands below the command line and above the backends',
  },
  {
    path: 'presets',
    mayImport: ['src/index', 'tasks', ...LEAVES],
    because: 'pieces for users, on the public API',
  },
  {
    path: 'src/cli',
    mayImport: [
      'src/api',
      'src/settings',
      'src/lifetime',
      'tasks',
      'presets/images',
      'src/registry',
      'src/image',
      'src/vmfile',
      'src/ssh',
      ...CHOICE,
      ...LEAVES,
    ],
    because: 'it stands above everything but the concrete backends; what takes several stages is a task',
  },
  {
    path: 'src/api',
    mayImport: ['tasks', 'src/lifetime', 'src/settings', ...STAGES, ...CHOICE, ...LEAVES],
    because: 'the programmatic API is another entrance beside the command line, over the same tasks',
  },
  {
    path: 'src/index',
    mayImport: ['src/api', 'src/settings', 'tasks', 'presets', ...STAGES, ...LEAVES],
    because: 'the public API: re-exports',
  },
];

/** What only some files may import. */
const DOORS: readonly { readonly module: RegExp; readonly only: RegExp; readonly because: string }[] = [
  { module: /^kdljs/, only: /^src\/vmfile\/kdl\.ts$/, because: 'one file knows the KDL parser' },
  { module: /^ssh2/, only: /^src\/ssh\//, because: 'one folder speaks SSH' },
  { module: /^execa$/, only: /^src\/util\/exec\.ts$/, because: 'one file starts programs' },
  { module: /^node:child_process|^node:cluster|^node:worker/, only: /^$/, because: 'execa starts programs' },
  {
    module: /^undici$/,
    only: /^src\/(?:image|hypervisor\/propolis)\//,
    because: 'images come over HTTP, and propolis-server listens to it',
  },
  { module: /^node:https?$/, only: /^$/, because: 'undici speaks HTTP' },
  { module: /^cosmiconfig$/, only: /^src\/settings\/load\.ts$/, because: 'one file reads the configuration' },
  { module: /^commander$/, only: /^src\/cli\//, because: 'the library has no command line' },
  {
    module: /^listr2$/,
    only: /^(?:tasks\/|src\/api\/tasks\.ts$)/,
    because: 'stage functions know nothing of the graph',
  },
  { module: /^p-queue$/, only: /^tasks\//, because: 'limits belong to the graph' },
  { module: /^node:process$/, only: /^$/, because: 'the checks below look for the global' },
];

/** A program of its own, which the build makes an entry of. */
const WATCHDOG = 'src/lifetime/watchdog-main.ts';
/** Where the API takes the outside world from, unless it is handed another one. */
const ENTRANCE = 'src/api/outside.ts';

/** The same for the presets of test runners, which are guests in a process of somebody else. */
const RUNNER = 'presets/testing/surroundings.ts';

/** What the library leaves to the command line, with the exceptions that are meant. */
const OUTSIDE: readonly { readonly access: RegExp; readonly also: readonly string[]; readonly because: string }[] = [
  {
    access: /^process\.env$/,
    also: [ENTRANCE, RUNNER],
    because: 'settings come in as parameters; the entrance of the API has it as the default of one',
  },
  {
    access: /^process\.(?:stdin|stdout|stderr)$/,
    also: ['tasks/run.ts', WATCHDOG, RUNNER],
    because: 'the library prints nothing but the tree that it is asked to show',
  },
  {
    access: /^process\.(?:exit|exitCode|abort)$/,
    also: [WATCHDOG],
    because: 'the library never ends the process',
  },
  {
    access: /^process\.(?:on|once|addListener|prependListener)$/,
    also: [WATCHDOG, RUNNER],
    because: 'the library handles no signals',
  },
  {
    access: /^process\.(?:argv|cwd|chdir)$/,
    also: [WATCHDOG, ENTRANCE, RUNNER],
    because: 'the current folder is a parameter',
  },
  { access: /^console\./, also: [], because: 'the library reports events and prints nothing' },
  {
    access: /^new Listr$/,
    also: ['tasks/run.ts'],
    because: 'the one root of the graph; everything else is embeddable',
  },
];

const inside = (file: string, area: string): boolean =>
  file === `${area}.ts` ||
  file.startsWith(`${area}/`) ||
  (area === 'src/registry' && file === 'src/registry-schema.ts');

function areaOf(file: string): Area | undefined {
  return AREAS.filter(({ path }) => inside(file, path)).toSorted((a, b) => b.path.length - a.path.length)[0];
}

/** Each module that is imported, and each access to the world, as `process.env` or `new Listr`. */
function facts(
  file: string,
  text: string,
): { readonly modules: readonly string[]; readonly accesses: readonly string[] } {
  const modules: string[] = [];
  const accesses: string[] = [];
  const visit = (node: ts.Node): void => {
    if ((ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) && node.moduleSpecifier !== undefined) {
      if (ts.isStringLiteral(node.moduleSpecifier)) modules.push(node.moduleSpecifier.text);
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      const [module] = node.arguments;
      modules.push(module !== undefined && ts.isStringLiteral(module) ? module.text : '(computed)');
    } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      if (ts.isStringLiteral(node.argument.literal)) modules.push(node.argument.literal.text);
    } else if (ts.isPropertyAccessExpression(node) && ts.isIdentifier(node.expression)) {
      accesses.push(`${node.expression.text}.${node.name.text}`);
    } else if (ts.isNewExpression(node) && ts.isIdentifier(node.expression)) {
      accesses.push(`new ${node.expression.text}`);
    } else if (ts.isVariableDeclaration(node) && ts.isObjectBindingPattern(node.name)) {
      const from = node.initializer;
      if (from !== undefined && ts.isIdentifier(from)) {
        for (const { propertyName, name } of node.name.elements) {
          accesses.push(`${from.text}.${(propertyName ?? name).getText()}`);
        }
      }
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true));
  return { modules, accesses };
}

/** Everything in a source that breaks a rule, each with the reason of the rule. */
function violations(file: string, text: string): readonly string[] {
  const area = areaOf(file);
  if (area === undefined) return [`${file} belongs to no part of the design`];
  const { modules, accesses } = facts(file, text);
  const found: string[] = [];
  for (const module of modules) {
    const target = module.startsWith('.') ? posix.join(posix.dirname(file), module).replace(/\.js$/, '.ts') : null;
    if (module === '(computed)') found.push(`${file} imports a module whose name is computed`);
    if (target !== null && ![area.path, ...area.mayImport].some((allowed) => inside(target, allowed))) {
      found.push(`${file} may not import ${target}: ${area.because}`);
    }
    for (const door of DOORS) {
      if (door.module.test(module) && !door.only.test(file)) {
        found.push(`${file} may not import ${module}: ${door.because}`);
      }
    }
  }
  if (file.startsWith('src/cli/')) return found;
  for (const { access, also, because } of OUTSIDE) {
    const meant = accesses.filter((one) => access.test(one) && !also.includes(file));
    found.push(...meant.map((one) => `${file} may not use ${one}: ${because}`));
  }
  return found;
}

function sources(): readonly Source[] {
  return ['src', 'tasks', 'presets'].flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.[cm]?tsx?$/.test(name) && !name.endsWith('.d.ts'))
      .map((name) => `${folder}/${name.replaceAll('\\', '/')}`)
      .map((file) => ({ file, text: readFileSync(join(ROOT, file), 'utf8') })),
  );
}

/** Packages that take longer to load than a command that only looks takes as a whole. */
const LARGE: ReadonlySet<string> = new Set([
  'ssh2',
  'undici',
  'execa',
  'listr2',
  '@bgotink/kdl',
  'kdljs',
  'yaml',
  'jiti',
]);

/** The packages that are loaded with these files, before anything is asked for by `import()`. */
function loadedPackages(entries: readonly string[], all: readonly Source[]): readonly string[] {
  const texts = new Map(all.map(({ file, text }) => [file, text]));
  const seen = new Set(entries);
  const packages = new Set<string>();
  // A set that grows while it is walked through gives what was added, too.
  for (const file of seen) {
    for (const module of staticImports(file, texts.get(file) ?? '')) {
      if (module.startsWith('.')) seen.add(posix.join(posix.dirname(file), module).replace(/\.js$/, '.ts'));
      else packages.add(module);
    }
  }
  return [...packages];
}

/** The modules whose values a source imports or passes on at its top level; types leave nothing to load. */
function staticImports(file: string, text: string): readonly string[] {
  const { statements } = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
  return statements.flatMap((statement) => {
    const specifier =
      ts.isImportDeclaration(statement) || ts.isExportDeclaration(statement) ? statement.moduleSpecifier : undefined;
    if (specifier === undefined || !ts.isStringLiteral(specifier)) return [];
    const isOfTypes = ts.isImportDeclaration(statement)
      ? statement.importClause?.isTypeOnly === true
      : ts.isExportDeclaration(statement) && statement.isTypeOnly;
    return isOfTypes ? [] : [specifier.text];
  });
}

interface Source {
  readonly file: string;
  readonly text: string;
}

describe('the sources', () => {
  const all = sources();

  test('import only what the design lets them, and leave the outside world to the command line', () => {
    expect(all.length).toBeGreaterThan(80);
    expect(all.flatMap(({ file, text }) => violations(file, text))).toEqual([]);
  });

  test('have exceptions to the rules only where these are still needed', () => {
    for (const { access, also } of OUTSIDE) {
      for (const file of also) {
        const text = all.find((source) => source.file === file)?.text ?? '';
        expect([file, facts(file, text).accesses]).toEqual([
          file,
          expect.arrayContaining([expect.stringMatching(access)]),
        ]);
      }
    }
  });

  test('have a public API of re-exports alone', () => {
    const text = all.find(({ file }) => file === 'src/index.ts')?.text ?? '';
    const { statements } = ts.createSourceFile('src/index.ts', text, ts.ScriptTarget.Latest, true);
    expect(statements.length).toBeGreaterThan(0);
    expect(statements.filter((statement) => !ts.isExportDeclaration(statement))).toEqual([]);
  });

  test('take listr2 for its types alone, except where the tree is shown', () => {
    const value = /^import (?!type )[^;]*from 'listr2'/m;
    expect(all.filter(({ text }) => value.test(text)).map(({ file }) => file)).toEqual([
      'tasks/run.ts',
      'tasks/tree-output.ts',
    ]);
  });

  test.each(['list', 'status', 'log', 'ssh', 'ssh-config', 'completion'])(
    'load none of the large libraries for %s, whose time is that of loading code',
    (command) => {
      const packages = loadedPackages(['src/cli/bin.ts', `src/cli/commands/${command}.ts`], all);
      expect(packages).toContain('commander');
      expect(packages.filter((name) => LARGE.has(name))).toEqual([]);
    },
  );

  test.each(['up', 'down', 'start', 'stop', 'suspend', 'resume'])(
    'load a client of HTTP or SSH for %s only when there is something to download or to log in to',
    (command) => {
      const packages = loadedPackages(['src/cli/bin.ts', `src/cli/commands/${command}.ts`], all);
      expect(packages).toContain('listr2');
      expect(packages.filter((name) => name === 'undici' || name === 'ssh2')).toEqual([]);
    },
  );
});

describe('the check', () => {
  test.each([
    ['src/model/vm.ts', "import { x } from '../registry.js';", 'src/registry.ts'],
    ['src/ssh/client.ts', "import type { X } from '../provision/log.js';", 'src/provision/log.ts'],
    ['src/image/cache.ts', "export * from '../vmfile/parse.js';", 'src/vmfile/parse.ts'],
    ['src/vmfile/a/b.ts', "type X = import('../../image/cache.js').X;", 'src/image/cache.ts'],
    ['src/hypervisor/noop.ts', "import './qemu/backend.js';", 'src/hypervisor/qemu/backend.ts'],
    ['src/hypervisor/qemu/qmp.ts', "await import('../../registry-schema.js');", 'src/registry-schema.ts'],
    [
      'tasks/up.ts',
      "import { QemuBackend } from '../src/hypervisor/qemu/backend.js';",
      'src/hypervisor/qemu/backend.ts',
    ],
    ['tasks/up.ts', "import { main } from '../src/cli/main.js';", 'src/cli/main.ts'],
    ['src/util/fs.ts', "import { up } from '../../tasks/up.js';", 'tasks/up.ts'],
  ])('finds in %s: %s', (file, text, target) => {
    expect(violations(file, text)).toEqual([expect.stringContaining(`${file} may not import ${target}: `)]);
  });

  test.each([
    ['src/vmfile/parse.ts', "import { parse } from 'kdljs';", 'import kdljs'],
    ['tasks/up.ts', "import { spawn } from 'node:child_process';", 'import node:child_process'],
    ['src/util/fs.ts', 'const x = process.env;', 'use process.env'],
    ['src/util/fs.ts', 'const { env: x } = process;', 'use process.env'],
    ['src/util/fs.ts', "process.on('SIGINT', () => {});", 'use process.on'],
    ['tasks/up.ts', 'process.exit(1);', 'use process.exit'],
    ['presets/images.ts', "console.log('x');", 'use console.log'],
    ['tasks/up.ts', 'new Listr([]);', 'use new Listr'],
  ])('finds in %s: %s', (file, text, what) => {
    expect(violations(file, text)).toEqual([expect.stringContaining(`${file} may not ${what}: `)]);
  });

  test('finds files in places that the design does not have, and names that are computed', () => {
    expect(violations('src/helpers/x.ts', '')).toEqual(['src/helpers/x.ts belongs to no part of the design']);
    expect(violations('tasks/up.ts', 'await import(name);')).toHaveLength(1);
  });

  test('lets the command line do what it is for', () => {
    const text = "import '../../tasks/up.js'; import 'commander'; console.log(process.env); process.exit(0);";
    expect(violations('src/cli/bin.ts', text)).toEqual([]);
  });
});
