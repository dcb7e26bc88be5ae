/** What a VMFile says about the inside of a guest: `cloud-init`, `ssh` and `ready`. */
import type { CloudInitDeclaration, ReadyCondition, ReadyDeclaration, SshDeclaration } from '../model/definition.js';
import type { Findings } from './diagnostic.js';
import type { KdlNode } from './kdl-tree.js';
import { hostname, oneLine, type Rule, unixUser } from './names.js';
import { Children, type NodeReader, readShape, Setting } from './shape.js';
import { integer, path, port, seconds, text } from './values.js';

/** Reads `cloud-init { … }`; all of it is optional. */
export function readCloudInit(node: KdlNode, findings: Findings): CloudInitDeclaration {
  const host = new Setting('hostname', text('a hostname', hostname, 'letters, digits and hyphens, as in "web-1"'));
  const sshKey = new Setting('ssh-key', path);
  const userData = new Setting('user-data', path);
  const networkConfig = new Setting('network-config', path);
  const children = { hostname: host, 'ssh-key': sshKey, 'user-data': userData, 'network-config': networkConfig };
  readShape(node, { title: '`cloud-init`', children }, findings);
  reportTwoKeys(sshKey, userData, findings);
  return {
    ...host.when((value) => ({ hostname: value })),
    ...sshKey.when((value) => ({ sshKey: value })),
    ...userData.when((value) => ({ userData: value })),
    ...networkConfig.when((value) => ({ networkConfig: value })),
  };
}

function reportTwoKeys(sshKey: Setting<string>, userData: Setting<string>, findings: Findings): void {
  if (sshKey.place === null || userData.place === null) return;
  const [first, second] = sshKey.place.start < userData.place.start ? [sshKey, userData] : [userData, sshKey];
  if (first.place === null || second.place === null) return;
  findings.error({
    code: 'conflict',
    message: '`user-data` and `ssh-key` cannot be given together',
    span: second.place,
    labels: [{ span: first.place, text: `\`${first.name}\` is given here` }],
    hint: '`user-data` is used as it is: put the key under `ssh_authorized_keys` in that file',
  });
}

const USER_HINT = 'lower-case letters, digits, `_` and `-`, as `useradd` demands';

/** Reads `ssh { … }`; all of it is optional. */
export function readSsh(node: KdlNode, findings: Findings): SshDeclaration {
  const user = new Setting('user', text('a user name', unixUser, USER_HINT));
  const privateKey = new Setting('private-key', path);
  const timeout = new Setting('timeout', seconds);
  readShape(node, { title: '`ssh`', children: { user, 'private-key': privateKey, timeout } }, findings);
  return {
    ...user.when((value) => ({ user: value })),
    ...privateKey.when((value) => ({ privateKey: value })),
    ...timeout.when((value) => ({ timeout: value })),
  };
}

/** Reads `ready { … }`: conditions in any number and order, and a timeout for all of them. */
export function readReady(node: KdlNode, findings: Findings): ReadyDeclaration {
  const conditions: Children<ReadyCondition>[] = [];
  const condition = (read: NodeReader<ReadyCondition>): Children<ReadyCondition> => {
    const field = new Children(read);
    conditions.push(field);
    return field;
  };
  const timeout = new Setting('timeout', seconds);
  const children = {
    port: condition(one('port', port, (value) => ({ kind: 'port', port: value }))),
    http: condition(readHttp),
    log: condition(readLog),
    shell: condition(one('shell', text('a command', oneLine), (value) => ({ kind: 'shell', command: value }))),
    file: condition(one('file', path, (value) => ({ kind: 'file', path: value }))),
    unit: condition(one('unit', text('a systemd unit', oneLine), (value) => ({ kind: 'unit', unit: value }))),
    'cloud-init': condition((child) => {
      readShape(child, { title: '`cloud-init` of `ready`' }, findings);
      return { kind: 'cloud-init' };
    }),
    timeout,
  };
  readShape(node, { title: '`ready`', children }, findings);
  if (conditions.every((field) => field.places.length === 0) && !node.damage.head && !node.damage.body) {
    const hint = 'for example: ready { port 80 }';
    findings.error({ code: 'missing', message: '`ready` needs at least one condition', span: node.head, hint });
  }
  const inOrder = conditions.flatMap((field) => field.values).toSorted((a, b) => a.span.start - b.span.start);
  return { conditions: inOrder, ...timeout.when((value) => ({ timeout: value })) };
}

/** A condition of one argument. */
function one<T>(
  name: string,
  reader: Setting<T>['reader'],
  as: (value: T) => ReadyCondition,
): NodeReader<ReadyCondition> {
  return (node, findings) => {
    const value = new Setting(name, reader);
    readShape(node, { title: `\`${name}\``, arguments: [value] }, findings);
    return value.value === undefined ? undefined : as(value.value.value);
  };
}

const urlPath: Rule = (value) => oneLine(value) ?? (value.startsWith('/') ? null : 'it does not start with `/`');

/** `log "regular expression" flags="i"`; each line of the console is matched by itself. */
function readLog(node: KdlNode, findings: Findings): ReadyCondition | undefined {
  const pattern = new Setting('log', text('a regular expression', oneLine));
  const flags = new Setting('flags', text('flags of a regular expression', flagsRule));
  readShape(
    node,
    { title: '`log`', arguments: [pattern], properties: { flags }, example: 'log "listening"' },
    findings,
  );
  if (pattern.value === undefined) return undefined;
  const { value, span } = pattern.value;
  const letters = flags.value?.value ?? '';
  const problem = whyNoExpression(value, letters);
  if (problem === null) return { kind: 'log', pattern: value, flags: letters };
  findings.error({
    code: 'invalid-value',
    message: `this is no regular expression: ${problem}`,
    span,
    hint: 'as in JavaScript; where it has backslashes, write it as #"…"#',
  });
  return undefined;
}

/** Those that change what matches; `g` and `y` are about where to go on. */
const flagsRule: Rule = (value) => {
  const isKnown = /^[imsuv]+$/.test(value) && !/(.).*\1/.test(value) && !/u.*v|v.*u/.test(value);
  return isKnown ? null : 'there are i, m, s, and u or v, each once';
};

function whyNoExpression(pattern: string, flags: string): string | null {
  try {
    new RegExp(pattern, flags).test('');
    return null;
  } catch (error) {
    // V8: "Invalid regular expression: /a(b/: Unterminated group".
    return error instanceof Error ? error.message.replace(/^.*: /s, '') : String(error);
  }
}

/** `http "/path" port=8080 status=204`; port 80 and any status below 400 where they are not given. */
function readHttp(node: KdlNode, findings: Findings): ReadyCondition | undefined {
  const target = new Setting('http', text('the path of a URL', urlPath));
  const httpPort = new Setting('port', port);
  const status = new Setting('status', integer({ minimum: 100, maximum: 599 }));
  const properties = { port: httpPort, status };
  readShape(node, { title: '`http`', arguments: [target], properties, example: 'http "/" port=8080' }, findings);
  if (target.value === undefined) return undefined;
  return {
    kind: 'http',
    path: target.value.value,
    port: httpPort.value?.value ?? 80,
    status: status.value?.value ?? null,
  };
}
