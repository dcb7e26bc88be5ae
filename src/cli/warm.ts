/** `vmctl warm`: what is frozen, and its removal. */
import { bytesText } from '../../tasks/progress-text.js';
import { frozenFacts, planWarmPrune, removeUnused } from '../../tasks/warm-collect.js';
import type { Cli } from './cli.js';
import { printJson, printNote, table } from './report.js';
import { environmentOf, settingsOf } from './session.js';

export async function listWarm(cli: Cli, json: boolean): Promise<void> {
  const env = environmentOf(cli, 'warm list', await settingsOf(cli));
  const rows = (await frozenFacts(env)).map(({ key, folder, manifest, bytes, lastUsedAt, users }) => ({
    key,
    name: manifest?.name ?? null,
    project: manifest?.project ?? null,
    /** Null where it cannot be used any more. */
    level: manifest?.level ?? null,
    frozenAt: manifest?.frozenAt ?? null,
    lastUsedAt: new Date(lastUsedAt).toISOString(),
    bytes,
    users,
    folder,
  }));
  if (json) {
    printJson(cli, { frozen: rows, bytes: rows.reduce((sum, { bytes }) => sum + bytes, 0) });
    return;
  }
  if (rows.length === 0) printNote(cli, 'nothing is frozen');
  else {
    const cells = rows.map((row) => [
      row.name ?? '?',
      row.level ?? 'unusable',
      bytesText(row.bytes),
      row.lastUsedAt.slice(0, 16).replace('T', ' '),
      row.users.length === 0 ? '-' : row.users.join(', '),
      row.project ?? '-',
    ]);
    cli.stdout.write(table(['NAME', 'WHAT', 'SIZE', 'LAST USED', 'VMS', 'VMFILE'], cells));
  }
}

export interface WarmPruneFlags {
  readonly dryRun: boolean;
  readonly olderThan?: number;
  readonly keepSize?: number;
  readonly json: boolean;
}

export async function pruneWarm(cli: Cli, flags: WarmPruneFlags): Promise<void> {
  const env = environmentOf(cli, 'warm prune', await settingsOf(cli));
  const budgetBytes = flags.keepSize ?? (flags.olderThan === undefined ? env.warm.budgetBytes : null);
  const doomed = await planWarmPrune(env, { olderThanSeconds: flags.olderThan ?? null, budgetBytes });
  const items: { key: string; path: string; bytes: number; why: string; result: string }[] = [];
  for (const { key, bytes, why } of doomed) {
    const gone = !flags.dryRun && (await removeUnused(env, key));
    const result = flags.dryRun ? 'would be removed' : gone ? 'removed' : 'kept';
    items.push({ key, path: env.paths.frozen(key), bytes, why, result });
  }
  const freedBytes = items.reduce((sum, { bytes, result }) => sum + (result === 'kept' ? 0 : bytes), 0);
  if (flags.json) {
    printJson(cli, { dryRun: flags.dryRun, items, freedBytes });
    return;
  }
  if (items.length === 0) printNote(cli, 'there is nothing to remove');
  else {
    const rows = items.map(({ path, bytes, result, why }) => [bytesText(bytes), result, path, why]);
    cli.stdout.write(table(['SIZE', 'RESULT', 'PATH', 'WHY'], rows));
    printNote(cli, `${bytesText(freedBytes)} ${flags.dryRun ? 'would be freed; nothing was changed' : 'freed'}`);
  }
}
