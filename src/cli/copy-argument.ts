/** The two places of `vmctl cp`: one is on this machine, the other one is `NAME:PATH` in a VM. */
import type { CopyRequest } from '../../tasks/copy.js';
import { VmctlError } from '../errors.js';

/** A colon before the first slash ends a VM's name, as in scp; a local path with such a colon is written `./a:b`. */
const GUEST_PLACE = /^([^/:]*):(.*)$/s;

/** Throws `USAGE` unless exactly one of them is in a VM. */
export function copyRequest(source: string, destination: string): CopyRequest {
  const from = GUEST_PLACE.exec(source);
  const to = GUEST_PLACE.exec(destination);
  if (from !== null && to !== null) {
    throw wrong(
      `${source} and ${destination} are both in a VM`,
      'Copy to this machine first, and from here to the other.',
    );
  }
  if (to !== null) return { direction: 'in', local: onHost(source), ...inGuest(to, destination) };
  if (from !== null) return { direction: 'out', local: onHost(destination), ...inGuest(from, source) };
  throw wrong(
    `neither ${source} nor ${destination} is in a VM`,
    'A place in a VM is its name, a colon and the path, such as web:/tmp/site.conf.',
  );
}

function inGuest([, name = '', remote = '']: RegExpExecArray, text: string): Pick<CopyRequest, 'name' | 'remote'> {
  if (name !== '') return { name, remote };
  throw wrong(`${text} names no VM before its colon`, `For a file on this machine write ./${text}`);
}

function onHost(path: string): string {
  if (path !== '') return path;
  throw wrong('an empty path is no place on this machine', 'For this folder write a dot.');
}

function wrong(message: string, hint: string): VmctlError {
  return new VmctlError('USAGE', message, { hint });
}
