/**
 * Text to `ProjectDefinition`: the first stage. Everything that the file itself can be wrong about is reported here,
 * all of it in one run; what a default is, where a path leads and what this version can do is `resolve`'s.
 */
import type { ProjectDefinition, VmDefinition } from '../model/definition.js';
import type { SourceFile } from '../model/source.js';
import { checkProject } from './cross-checks.js';
import { type Diagnostic, Findings } from './diagnostic.js';
import { type KdlDocument, readDocument } from './document.js';
import type { KdlNode } from './kdl-tree.js';
import { MINIMAL_VMFILE } from './discover.js';
import { didYouMean } from './suggest.js';
import { readVm, vmNodeNames } from './vm-node.js';

export interface ParsedVmFile {
  /** Complete only when no diagnostic is an error. */
  readonly project: ProjectDefinition;
  /** In source order. */
  readonly diagnostics: readonly Diagnostic[];
}

/** Reads a VMFile; never throws for what its text holds. */
export function parseVmFile(source: SourceFile): ParsedVmFile {
  const findings = new Findings();
  reportInvalidBytes(source, findings);
  // Nothing of a text in another encoding would make sense.
  if (isUtf16(source)) return { project: { source, vms: [] }, diagnostics: findings.diagnostics };
  return readVms(source, readDocument(source.text, findings), findings);
}

/** Reads nodes that were not written as text; as `parseVmFile`. */
export function parseNodes(source: SourceFile, nodes: readonly KdlNode[]): ParsedVmFile {
  return readVms(source, { nodes, damaged: false }, new Findings());
}

function readVms(source: SourceFile, document: KdlDocument, findings: Findings): ParsedVmFile {
  const vms: VmDefinition[] = [];
  for (const node of document.nodes) {
    if (node.name.value !== 'vm') {
      reportUnknownNode(node, findings);
      continue;
    }
    const vm = readVm(node, findings);
    if (vm !== undefined) vms.push(vm);
  }
  reportNoVms(document, findings);
  checkProject({ vms, complete: !document.damaged && vms.length === document.nodes.length }, findings);
  return { project: { source, vms }, diagnostics: findings.diagnostics };
}

/** UTF-16 is ASCII with a NUL beside every letter, and starts with bytes that are not UTF-8. */
function isUtf16({ text, invalidBytes }: SourceFile): boolean {
  return invalidBytes !== undefined && text.includes('\0');
}

function reportInvalidBytes(source: SourceFile, findings: Findings): void {
  for (const span of source.invalidBytes ?? []) {
    findings.error({
      code: 'syntax',
      message: 'these bytes are not UTF-8',
      span,
      hint: isUtf16(source) ? 'the file looks like UTF-16; save it as UTF-8' : 'save the file as UTF-8',
    });
  }
}

function reportUnknownNode(node: KdlNode, findings: Findings): void {
  const name = node.name.value;
  const belongs = vmNodeNames().includes(name) ? `\`${name}\` belongs inside the braces of a \`vm\`` : undefined;
  findings.error({
    code: 'unknown-node',
    message: `a VMFile has no node \`${name}\` outside of \`vm\``,
    span: node.name.span,
    hint: belongs ?? didYouMean(name, ['vm']) ?? 'everything stands inside `vm "NAME" { … }`',
  });
}

function reportNoVms(document: KdlDocument, findings: Findings): void {
  if (document.damaged || document.nodes.length > 0) return;
  findings.error({
    code: 'missing',
    message: 'no VM is declared',
    span: { start: 0, end: 0 },
    hint: `for example: ${MINIMAL_VMFILE}`,
  });
}
