// Writes docs/api.md: everything that the package exports, with what its source says of it.
//
//     node scripts/api-docs.mjs           writes it
//     node scripts/api-docs.mjs --check   fails when it is not up to date
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { root } from './setup.mjs';

const target = join(root, 'docs', 'api.md');
const text = reference();
if (process.argv.includes('--check')) {
  if (readFileSync(target, 'utf8') !== text) {
    process.stderr.write('docs/api.md is not up to date; run: npm run docs\n');
    process.exitCode = 1;
  }
} else writeFileSync(target, text);

function reference() {
  const config = ts.readConfigFile(join(root, 'tsconfig.json'), (path) => ts.sys.readFile(path));
  const { options } = ts.parseJsonConfigFileContent(config.config, ts.sys, root);
  const entry = join(root, 'src', 'index.ts');
  const program = ts.createProgram([entry], options);
  const checker = program.getTypeChecker();
  const module = checker.getSymbolAtLocation(program.getSourceFile(entry));
  const found = checker.getExportsOfModule(module).map((symbol) => {
    const real = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
    return { name: symbol.name, declaration: real.declarations[0], symbol: real };
  });
  const sections = [
    ['Functions', ({ declaration }) => ts.isFunctionDeclaration(declaration)],
    ['Values', ({ declaration }) => ts.isVariableDeclaration(declaration)],
    ['Errors', ({ declaration }) => ts.isClassDeclaration(declaration)],
    ['Types', ({ declaration }) => ts.isInterfaceDeclaration(declaration) || ts.isTypeAliasDeclaration(declaration)],
  ];
  const body = sections.flatMap(([title, belongs]) => {
    const entries = found.filter(belongs).toSorted((a, b) => (a.name < b.name ? -1 : 1));
    return [`## ${String(title)}`, ...entries.flatMap((one) => entryOf(one, checker))];
  });
  const head = readFileSync(join(root, 'docs', 'api-introduction.md'), 'utf8').trimEnd();
  return `${[head, ...body].join('\n\n')}\n`;
}

function entryOf({ name, declaration, symbol }, checker) {
  const doc = ts.displayPartsToString(symbol.getDocumentationComment(checker)).trim();
  return [
    `### ${name}`,
    ...(doc === '' ? [] : [paragraph(doc)]),
    `\`\`\`text\n${signature(declaration, checker)}\n\`\`\``,
  ];
}

/** The source's own text, without bodies and without what is not public. */
function signature(declaration, checker) {
  const source = declaration.getSourceFile();
  const plain = (node) => source.text.slice(node.getStart(source), node.end);
  if (ts.isFunctionDeclaration(declaration)) {
    return source.text
      .slice(declaration.getStart(source), declaration.body.pos)
      .replace(/^export (?:async )?/, '')
      .trim();
  }
  if (ts.isVariableDeclaration(declaration)) {
    const type = checker.getTypeAtLocation(declaration);
    if (declaration.name.text === 'tasks') {
      const members = type.getProperties().map((property) => {
        const own = checker.getTypeOfSymbol(property);
        const doc = ts.displayPartsToString(own.symbol.getDocumentationComment(checker));
        const shown = checker.typeToString(own, declaration);
        return `  /** ${doc.replaceAll('\n', ' ')} */\n  ${property.name}: ${shown};`;
      });
      return `const tasks: {\n${members.join('\n')}\n}`;
    }
    return `const ${plain(declaration)}`.replace(/ as const$/, '');
  }
  if (ts.isClassDeclaration(declaration)) {
    const members = declaration.members
      .filter((member) => !isHidden(member))
      .map((member) => {
        const whole = source.text.slice(member.getFullStart(), member.end).replaceAll(/^\n+/g, '');
        return 'body' in member && member.body !== undefined
          ? `${source.text.slice(member.getFullStart(), member.body.pos).trim()};`.replace(/^/, '  ')
          : `  ${whole.trim()}`;
      });
    const heritage = declaration.heritageClauses?.map((clause) => ` ${plain(clause)}`).join('') ?? '';
    return `class ${declaration.name.text}${heritage} {\n${members.join('\n')}\n}`;
  }
  return plain(declaration).replace(/^export /, '');
}

function isHidden(member) {
  const hidden = ts.getJSDocTags(member).some(({ tagName }) => tagName.text === 'internal');
  return hidden || (member.name !== undefined && ts.isPrivateIdentifier(member.name));
}

/** Lines of a comment as they flow; empty lines stay. */
function paragraph(doc) {
  return doc
    .split(/\n\s*\n/)
    .map((part) => part.replaceAll(/\s*\n\s*/g, ' '))
    .join('\n\n');
}
