// Checks what a user gets: the files in the tarball, the types as each module system sees them, and that it runs.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root, say } from './setup.mjs';

const ALLOWED = /^(package\.json|README\.md|LICENSE|CHANGELOG\.md|dist\/.+\.(c?js|d\.c?ts|txt))$/;
const REQUIRED = [
  'package.json',
  'README.md',
  'LICENSE',
  'dist/cli.js',
  'dist/index.js',
  'dist/watchdog.js',
  'dist/types/src/index.d.ts',
];

const folder = mkdtempSync(join(tmpdir(), 'vmctl-package-'));
try {
  const [packed] = JSON.parse(npm(['pack', '--json', '--pack-destination', folder], root));
  const tarball = join(folder, packed.filename);
  checkFiles(packed.files.map(({ path }) => path));
  say('publint');
  node([bin('publint', 'src/cli.js'), '--strict'], root);
  say('types for every module system');
  // The package is ES modules only: Node 20.19 and later can `require` them, which this rule does not know.
  node(
    [
      bin('@arethetypeswrong/cli', 'dist/index.js'),
      tarball,
      '--profile',
      'node16',
      '--ignore-rules',
      'cjs-resolves-to-esm',
    ],
    root,
  );
  checkConsumers(tarball);
  say(`package: ${packed.files.length} files, ${Math.round(packed.size / 1024)} KiB packed`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

function checkFiles(paths) {
  const strange = paths.filter((path) => !ALLOWED.test(path));
  const missing = REQUIRED.filter((path) => !paths.includes(path));
  if (strange.length + missing.length === 0) return;
  throw new Error(
    `the tarball has ${strange.join(', ') || 'nothing'} too much, and lacks ${missing.join(', ') || 'nothing'}`,
  );
}

/** Installs the tarball beside an ESM and a CommonJS program, compiles both strictly, and runs them. */
function checkConsumers(tarball) {
  say('an ESM and a CommonJS user: install, compile, run');
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'consumer', private: true, type: 'module' }));
  // Whoever writes for Node.js in TypeScript has its types.
  const types = `@types/node@${manifest('@types/node')}`;
  npm(['install', '--no-audit', '--no-fund', '--loglevel=error', tarball, types], folder);
  const program = [
    "new VmctlError('USAGE', 'hello').code satisfies ErrorCode;",
    'const codes: object = ERROR_CODES;',
    'void codes;',
    "export const test = async () => (await up({ vms: ['web'] })).web.exec(['true']);",
    '',
  ].join('\n');
  writeFileSync(
    join(folder, 'esm.mts'),
    `import { ERROR_CODES, VmctlError, type ErrorCode, up } from 'vmctl';\n${program}`,
  );
  writeFileSync(
    join(folder, 'cjs.cts'),
    `import vmctl = require('vmctl');\nimport type { ErrorCode } from 'vmctl' with { 'resolution-mode': 'import' };\nconst { ERROR_CODES, VmctlError, up } = vmctl;\n${program}`,
  );
  const compilerOptions = {
    module: 'nodenext',
    target: 'es2023',
    strict: true,
    exactOptionalPropertyTypes: true,
    types: ['node'],
    skipLibCheck: false,
  };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['esm.mts', 'cjs.cts'] }));
  node([join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', folder], folder);
  node([join(folder, 'esm.mjs')], folder);
  node(['--no-warnings', join(folder, 'cjs.cjs')], folder);
  const version = execFileSync(join(folder, 'node_modules', '.bin', 'vmctl'), ['--version'], {
    encoding: 'utf8',
  }).trim();
  const expected = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version;
  if (version !== expected) throw new Error(`vmctl --version prints ${version}, not ${expected}`);
}

function manifest(dependency) {
  return JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).devDependencies[dependency];
}

function bin(name, file) {
  return join(root, 'node_modules', ...name.split('/'), file);
}

function node(args, cwd) {
  execFileSync(process.execPath, args, { cwd, stdio: ['ignore', 2, 2] });
}

function npm(args, cwd) {
  return execFileSync('npm', args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 2] });
}
