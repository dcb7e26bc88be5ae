/** What the documentation says is true: the reference is that of the sources, and every example compiles. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { expect, test } from 'vitest';
import { ROOT, examples } from './support/documentation.js';

test('docs/api.md is what the sources say', () => {
  const check = () => execFileSync(process.execPath, ['scripts/api-docs.mjs', '--check'], { cwd: ROOT, stdio: 'pipe' });
  expect(check).not.toThrow();
});

interface Source {
  /** Of a file that does not exist, at the root, so that it finds what a program beside the package finds. */
  readonly path: string;
  readonly text: string;
}

const sources = (): readonly Source[] =>
  examples()
    .filter(({ language }) => language === 'ts')
    .map(({ name, text }) => ({ path: join(ROOT, `${name.replaceAll(/\W+/g, '-')}.ts`), text }));

/** Each mistake of the compiler in an example, with the example's name. */
function mistakes(all: readonly Source[]): readonly string[] {
  const config: { readonly config?: unknown } = ts.readConfigFile(join(ROOT, 'tsconfig.json'), (path) =>
    ts.sys.readFile(path),
  );
  const { options } = ts.parseJsonConfigFileContent(config.config, ts.sys, ROOT);
  const settings: ts.CompilerOptions = { ...options, noEmit: true, paths: { vmctl: [join(ROOT, 'src/index.ts')] } };
  const host = ts.createCompilerHost(settings);
  const read = host.readFile.bind(host);
  const has = host.fileExists.bind(host);
  const textOf = (path: string) => all.find((example) => example.path === path)?.text;
  const getSourceFile = host.getSourceFile.bind(host);
  host.readFile = (path) => textOf(path) ?? read(path);
  host.fileExists = (path) => textOf(path) !== undefined || has(path);
  host.getSourceFile = (path, language, ...rest) => {
    const text = textOf(path);
    return text === undefined ? getSourceFile(path, language, ...rest) : ts.createSourceFile(path, text, language);
  };
  const program = ts.createProgram(
    all.map(({ path }) => path),
    settings,
    host,
  );
  return all.flatMap(({ path }) =>
    ts.getPreEmitDiagnostics(program, program.getSourceFile(path)).map(({ messageText }) => {
      return `${path.slice(ROOT.length)}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`;
    }),
  );
}

test('every example in TypeScript compiles', () => {
  const all = sources();
  expect(all.length).toBeGreaterThanOrEqual(5);
  expect(mistakes(all)).toEqual([]);
});

test('an example with a mistake would be found', () => {
  const text = "import { up } from 'vmctl';\nconst vms = await up({ vms: ['web'] });\nawait vms.db.exec('true');\n";
  expect(mistakes([{ path: join(ROOT, 'wrong.ts'), text }])).toEqual([expect.stringContaining("'db' does not exist")]);
});

test('every test that docs/reliability.md names is there', () => {
  const text = readFileSync(join(ROOT, 'docs/reliability.md'), 'utf8');
  const named = [...text.matchAll(/`(test\/[^`]+)`/g)].map(([, path = '']) => path);
  expect(named.length).toBeGreaterThan(20);
  expect(named.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
});
