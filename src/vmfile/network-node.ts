/** `network "user"`, `"tap"`, `"vnic"` and `"none"`. */
import { unreachable } from '../errors.js';
import type { ForwardDeclaration, LanDeclaration, NetworkDeclaration } from '../model/definition.js';
import type { Findings } from './diagnostic.js';
import type { KdlNode } from './kdl-tree.js';
import { interfaceName, ipv4Address, oneLine, vnicName } from './names.js';
import { Child, Children, readShape, readValue, Setting, type Shape } from './shape.js';
import { choice, integer, port, text } from './values.js';

const KINDS = choice(['user', 'tap', 'vnic', 'none']);
type Kind = NetworkDeclaration['kind'];

const ELSEWHERE = {
  forward: '`forward` belongs to `network "user"`',
  lan: '`lan` belongs to `network "user"`: it is a network of QEMU’s own, beside the one to the host',
  bridge: '`bridge` belongs to `network "tap"`',
  name: '`name` belongs to `network "vnic"`',
};

/** Reads a `network` node; its argument decides what else it can have. */
export function readNetwork(node: KdlNode, findings: Findings): NetworkDeclaration | undefined {
  const kind = kindOf(node, findings);
  if (kind === undefined) return undefined;
  const common = {
    title: `\`network "${kind}"\``,
    arguments: [new Setting('network', KINDS)],
    elsewhere: ELSEWHERE,
  };
  switch (kind) {
    case 'user':
      return readUser(node, common, findings);
    case 'tap': {
      const bridge = new Setting('bridge', text('the name of a bridge', interfaceName));
      readShape(node, { ...common, properties: { bridge }, children: { bridge } }, findings);
      return { kind, ...bridge.when((value) => ({ bridge: value })) };
    }
    case 'vnic': {
      const name = new Setting('name', text('the name of a VNIC', vnicName));
      readShape(node, { ...common, properties: { name }, children: { name } }, findings);
      if (!name.seen && !node.damage.head && !node.damage.body) {
        const hint = 'for example: network "vnic" name="vnic0"';
        findings.error({ code: 'missing', message: `${common.title} needs the name of a VNIC`, span: node.head, hint });
      }
      return name.value === undefined ? undefined : { kind, vnic: name.value };
    }
    case 'none':
      readShape(node, { ...common, children: {} }, findings);
      return { kind };
    default:
      return unreachable(kind);
  }
}

/** The kind, before anything else can be read. With no valid one, nothing more is said about the node. */
function kindOf(node: KdlNode, findings: Findings): Kind | undefined {
  if (node.damage.head) return undefined;
  const argument = node.entries.find((entry) => entry.kind === 'argument');
  if (argument !== undefined) return readValue(argument.value, { owner: '`network`', reader: KINDS }, findings);
  findings.error({
    code: 'missing',
    message: `\`network\` needs ${KINDS.expected}`,
    span: node.head,
    hint: 'for example: network "user"',
  });
  return undefined;
}

function readUser(node: KdlNode, common: Shape, findings: Findings): NetworkDeclaration {
  const forwards = new Children(readForward);
  const lan = new Child('lan', readLan);
  readShape(node, { ...common, children: { forward: forwards, lan } }, findings);
  return { kind: 'user', forwards: forwards.values, ...lan.when((value) => ({ lan: value })) };
}

function readForward(node: KdlNode, findings: Findings): ForwardDeclaration | undefined {
  const host = new Setting('host port', integer({ minimum: 0, maximum: 65_535 }));
  const guest = new Setting('guest port', port);
  readShape(node, { title: '`forward`', arguments: [host, guest], example: 'forward 8080 80' }, findings);
  if (host.value === undefined || guest.value === undefined) return undefined;
  return { host: host.value.value, guest: guest.value.value };
}

function readLan(node: KdlNode, findings: Findings): LanDeclaration | undefined {
  const name = new Setting('name', text('the name of a LAN', oneLine));
  const address = new Setting('address', text('an IPv4 address', ipv4Address));
  readShape(node, { title: '`lan`', arguments: [name], properties: { address }, example: 'lan "backend"' }, findings);
  if (name.value === undefined) return undefined;
  return { name: name.value.value, ...address.when((value) => ({ address: value })) };
}
