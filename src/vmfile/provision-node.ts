/** `provision "shell"` and `provision "file"`. */
import type { ProvisionDeclaration, RunPolicy } from '../model/definition.js';
import type { Located } from '../model/source.js';
import type { Findings } from './diagnostic.js';
import type { KdlNode, KdlProperty } from './kdl-tree.js';
import { environmentName, script } from './names.js';
import { type NodeField, readShape, readValue, Setting, type Shape } from './shape.js';
import { choice, path, seconds, text } from './values.js';

const KINDS = choice(['shell', 'file']);

const ELSEWHERE = {
  inline: '`inline` belongs to `provision "shell"`',
  script: '`script` belongs to `provision "shell"`',
  env: '`env` belongs to `provision "shell"`',
  source: '`source` belongs to `provision "file"`',
  destination: '`destination` belongs to `provision "file"`',
};

/** Reads a `provision` node; its argument decides what else it can have. */
export function readProvision(node: KdlNode, findings: Findings): ProvisionDeclaration | undefined {
  const kind = kindOf(node, findings);
  if (kind === undefined) return undefined;
  const run = new Setting<RunPolicy>('run', choice(['always', 'once', 'on-change', 'each']));
  const timeout = new Setting('timeout', seconds);
  const step: Step = {
    node,
    findings,
    title: `\`provision "${kind}"\``,
    shape: {
      title: `\`provision "${kind}"\``,
      arguments: [new Setting('provision', KINDS)],
      elsewhere: ELSEWHERE,
      properties: { run, timeout },
      children: { run, timeout },
    },
  };
  const declaration = kind === 'shell' ? readShell(step) : readFile(step);
  if (declaration === undefined) return undefined;
  return {
    ...declaration,
    ...run.when((value) => ({ run: value })),
    ...timeout.when((value) => ({ timeout: value })),
  };
}

interface Step {
  readonly node: KdlNode;
  readonly findings: Findings;
  readonly title: string;
  readonly shape: Shape;
}

function kindOf(node: KdlNode, findings: Findings): 'shell' | 'file' | undefined {
  if (node.damage.head) return undefined;
  const argument = node.entries.find((entry) => entry.kind === 'argument');
  if (argument !== undefined) return readValue(argument.value, { owner: '`provision`', reader: KINDS }, findings);
  findings.error({
    code: 'missing',
    message: `\`provision\` needs ${KINDS.expected}`,
    span: node.head,
    hint: 'for example: provision "shell" { inline "uname -a" }',
  });
  return undefined;
}

function readShell({ node, findings, title, shape }: Step): ProvisionDeclaration | undefined {
  const inline = new Setting('inline', text('the commands to run', script));
  const file = new Setting('script', path);
  const environment = new Environment();
  readShape(node, { ...shape, children: { ...shape.children, inline, script: file, env: environment } }, findings);
  if (inline.place !== null && file.place !== null) {
    const [first, second] =
      inline.place.start < file.place.start ? [inline.place, file.place] : [file.place, inline.place];
    findings.error({
      code: 'conflict',
      message: `${title} takes \`inline\` or \`script\`, not both`,
      span: second,
      labels: [{ span: first, text: 'the other one' }],
      hint: 'make two `provision` nodes of them; they run in their order',
    });
    return undefined;
  }
  if (!inline.seen && !file.seen && !node.damage.body) {
    const hint = 'for example: provision "shell" { inline "uname -a" }';
    findings.error({ code: 'missing', message: `${title} needs \`inline\` or \`script\``, span: node.head, hint });
  }
  const variables = environment.variables;
  if (inline.value !== undefined) {
    return { kind: 'shell', command: { kind: 'inline', text: inline.value }, environment: variables };
  }
  if (file.value === undefined) return undefined;
  return { kind: 'shell', command: { kind: 'script', path: file.value }, environment: variables };
}

function readFile({ node, findings, title, shape }: Step): ProvisionDeclaration | undefined {
  const source = new Setting('source', path);
  const destination = new Setting('destination', path);
  readShape(node, { ...shape, children: { ...shape.children, source, destination } }, findings);
  const missing = [source, destination].filter((setting) => !setting.seen);
  if (missing.length > 0 && !node.damage.body) {
    findings.error({
      code: 'missing',
      message: `${title} needs ${missing.map((setting) => `\`${setting.name}\``).join(' and ')}`,
      span: node.head,
      hint: 'for example: provision "file" { source "site.conf"; destination "/tmp/site.conf" }',
    });
  }
  if (source.value === undefined || destination.value === undefined) return undefined;
  return { kind: 'file', source: source.value, destination: destination.value };
}

/** `env NAME="value" OTHER="value"`, on one node or several. */
class Environment implements NodeField {
  readonly variables: Located<{ readonly name: string; readonly value: string }>[] = [];
  readonly #properties: KdlProperty[] = [];

  node(node: KdlNode, findings: Findings): void {
    const example = 'env NAME="value"';
    const anyProperty = { property: (property: KdlProperty) => this.#add(property, findings) };
    readShape(node, { title: '`env`', anyProperty, example }, findings);
    if (node.entries.length > 0 || node.damage.head) return;
    const message = '`env` needs at least one variable';
    findings.error({ code: 'missing', message, span: node.head, hint: `for example: ${example}` });
  }

  #add(property: KdlProperty, findings: Findings): void {
    const name = property.name.value;
    const earlier = this.#properties.find((other) => other.name.value === name);
    this.#properties.push(property);
    if (earlier !== undefined) {
      findings.error({
        code: 'duplicate',
        message: `the variable \`${name}\` is given twice`,
        span: property.name.span,
        labels: [{ span: earlier.name.span, text: 'first given here' }],
        hint: 'keep one of them',
      });
      return;
    }
    const reason = environmentName(name);
    if (reason !== null) {
      const message = `\`${name}\` is not the name of an environment variable: ${reason}`;
      findings.error({ code: 'invalid-value', message, span: property.name.span });
    }
    const reader = text('a quoted string', (value) => (value.includes('\0') ? 'it has a NUL character' : null));
    const value = readValue(property.value, { owner: `\`${name}\``, reader }, findings);
    if (value === undefined) return;
    const span = { start: property.name.span.start, end: property.value.span.end };
    this.variables.push({ value: { name, value }, span });
  }
}
