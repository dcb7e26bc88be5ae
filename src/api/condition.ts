/** What `waitFor` takes, as a condition of a guest. */
import { VmctlError } from '../errors.js';
import type { ReadyCondition } from '../model/definition.js';
import { literalPattern } from '../vmfile/from-code.js';
import type { WaitCondition } from './vm-types.js';

/** Throws `USAGE` for anything else than one condition. */
export function guestCondition(condition: WaitCondition): ReadyCondition {
  const keys = Object.keys(condition);
  if (keys.length === 1) {
    if ('http' in condition) {
      const { port = 80, path = '/', status = null } = condition.http;
      return { kind: 'http', port, path, status };
    }
    if ('port' in condition) return { kind: 'port', port: condition.port };
    if ('log' in condition) return { kind: 'log', ...patternOf(condition.log) };
    if ('shell' in condition) return { kind: 'shell', command: condition.shell };
    if ('file' in condition) return { kind: 'file', path: condition.file };
    if ('unit' in condition) return { kind: 'unit', unit: condition.unit };
    if ('cloudInit' in condition) return { kind: 'cloud-init' };
  }
  throw new VmctlError('USAGE', `waitFor takes one condition, not ${keys.length === 0 ? 'none' : keys.join(' and ')}`, {
    hint: 'One of: http, port, log, shell, file, unit, cloudInit.',
  });
}

function patternOf(log: string | RegExp): { readonly pattern: string; readonly flags: string } {
  if (typeof log === 'string') return { pattern: literalPattern(log), flags: '' };
  // Without a memory of where it matched last.
  return { pattern: log.source, flags: log.flags.replaceAll(/[dgy]/g, '') };
}
