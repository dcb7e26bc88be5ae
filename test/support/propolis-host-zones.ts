/** `zoneadm` and `zonecfg` of a fake illumos host. */
import { type Result, failed, printed } from './propolis-host-words.js';

/** Runs a command over the zones, each the fields of `zoneadm list -p`. */
export function zoneCommand(program: string, words: readonly string[], zones: string[][]): Result {
  const name = words[0] === '-z' ? (words[1] ?? '') : null;
  const verb = words[name === null ? 0 : 2] ?? '';
  const zone = zones.find((fields) => fields[1] === name);
  if (program === 'zonecfg' && zone === undefined) return failed(`${name}: No such zone configured`);
  if (verb === 'list') {
    if (name !== null && zone === undefined) return failed(`zoneadm: ${name}: No such zone configured`);
    const shown = zone === undefined ? zones : [zone];
    return printed(shown.map((fields) => fields.map((field) => field.replaceAll(':', '\\:')).join(':')));
  }
  if (zone === undefined) return failed(`zoneadm: ${name}: No such zone configured`);
  const refusal = refusalOf(verb, zone[2] ?? '');
  if (refusal !== null) return failed(`zoneadm: zone '${name}': ${refusal}`);
  zone[2] =
    { boot: 'running', install: 'installed', uninstall: 'configured', halt: 'installed' }[verb] ?? zone[2] ?? '';
  return printed([]);
}

function refusalOf(verb: string, state: string): string | null {
  if (verb === 'boot' && state !== 'installed') return 'must be installed before boot.';
  if (verb === 'install' && state === 'incomplete') return 'zone is incomplete; uninstall required.';
  if (verb === 'install' && state !== 'configured') return 'is already installed.';
  if (verb === 'uninstall' && state === 'configured') return "is already in state 'configured'.";
  if (verb === 'uninstall' && state === 'running') return 'uninstall operation is invalid for running zones.';
  return null;
}
