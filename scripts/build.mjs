// Builds dist/: one bundle with a chunk per command, the type declarations, and the licences of what is bundled.
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
process.chdir(root);
const manifest = JSON.parse(readFileSync('package.json', 'utf8'));

// CommonJS packages inside an ES module bundle expect these three.
const commonJsGlobals = [
  "import { createRequire as vmctlCreateRequire } from 'node:module';",
  "import { dirname as vmctlDirname } from 'node:path';",
  "import { fileURLToPath as vmctlFileURLToPath } from 'node:url';",
  'const require = vmctlCreateRequire(import.meta.url);',
  'const __filename = vmctlFileURLToPath(import.meta.url);',
  'const __dirname = vmctlDirname(__filename);',
].join('');

rmSync('dist', { recursive: true, force: true });
const { metafile } = await build({
  entryPoints: {
    cli: 'src/cli/bin.ts',
    index: 'src/index.ts',
    watchdog: 'src/lifetime/watchdog-main.ts',
    'vitest/plugin': 'presets/vitest/plugin.ts',
    'vitest/setup': 'presets/vitest/setup.ts',
    'vitest/file-setup': 'presets/vitest/file-setup.ts',
    'vitest/test': 'presets/vitest/test.ts',
    'jest/preset': 'presets/jest/preset.ts',
    'jest/setup': 'presets/jest/setup.ts',
    'jest/teardown': 'presets/jest/teardown.ts',
    'jest/environment': 'presets/jest/environment.ts',
    'node-test/index': 'presets/node-test/index.ts',
    'node-test/setup': 'presets/node-test/setup.ts',
  },
  outdir: 'dist',
  chunkNames: 'chunks/[name]-[hash]',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  // Installed beside vmctl: listr2, whose types are part of ours, and jiti, which loads from its own folder.
  // The other two are optional accelerators of ssh2, which does without them.
  external: [
    ...Object.keys(manifest.dependencies),
    ...Object.keys(manifest.peerDependencies),
    'cpu-features',
    '*.node',
    'typescript',
  ],
  define: { VMCTL_VERSION: JSON.stringify(manifest.version) },
  banner: { js: commonJsGlobals },
  legalComments: 'none',
  metafile: true,
  logLevel: 'warning',
});
copyFileSync('presets/jest/index.cjs', 'dist/jest/index.cjs');
chmodSync('dist/cli.js', 0o755);
writeFileSync('dist/THIRD-PARTY-LICENSES.txt', licences(bundledPackages(metafile)));
const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
execFileSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], { stdio: 'inherit' });
copyFileSync('presets/jest/index.d.cts', 'dist/types/presets/jest/index.d.cts');

/** The folders of the packages whose code went into the bundle. */
function bundledPackages({ inputs }) {
  const folders = Object.keys(inputs).map((path) => /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]);
  return [...new Set(folders.filter((folder) => folder !== undefined))].toSorted();
}

function licences(folders) {
  return folders
    .map((folder) => {
      const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
      const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
      const text =
        file === undefined || !existsSync(join(folder, file)) ? '' : readFileSync(join(folder, file), 'utf8');
      return `${name} ${version} (${license})\n\n${text.trim()}\n`;
    })
    .join(`\n${'-'.repeat(80)}\n\n`);
}
