/** How `gc` and `image prune` tell what goes, and remove it. */
import {
  type Collectable,
  type CollectionPlan,
  type ImageLimits,
  type Removal,
  collect,
  planCollection,
} from '../../tasks/collect.js';
import { bytesText } from '../../tasks/progress-text.js';
import type { VmctlError } from '../errors.js';
import type { Cli } from './cli.js';
import { exitCodeOfAll } from './exit-code.js';
import { printError, printJson, printNote, table } from './report.js';
import { environmentOf, settingsOf } from './session.js';

export interface CollectionOptions {
  /** For others who wait for a lock: `gc`. */
  readonly command: string;
  readonly scope: 'all' | 'images';
  /** VMs of programs that are over go, also those that were to stay. */
  readonly kept?: boolean;
  readonly dryRun: boolean;
  readonly json: boolean;
  /** Seconds. */
  readonly olderThan: number | undefined;
  /** Bytes; where it is not given, the setting `images.budget`. */
  readonly budget: number | undefined;
}

interface Row extends Pick<Collectable, 'path' | 'bytes' | 'why'> {
  readonly what: string;
  readonly result: Removal['result'] | 'would be removed';
}

/** Plans, tells, and removes unless it is a dry run; sets the exit code by what failed. */
export async function runCollection(cli: Cli, options: CollectionOptions): Promise<void> {
  // The commands beside these two need no settings, and most of the time that they take is the loading of code.
  const settings = await settingsOf(cli);
  const env = environmentOf(cli, options.command, settings);
  const limits: ImageLimits = {
    olderThanSeconds: options.olderThan ?? null,
    budgetBytes: options.budget ?? settings['images.budget'] ?? null,
  };
  const plan = await planCollection(env, limits, { scope: options.scope, kept: options.kept ?? false });
  const rows: Row[] = [];
  const errors: VmctlError[] = [];
  cli.onInterrupt = () => 'leaving what is not removed yet';
  for (const item of plan.items) {
    const { path, bytes, why } = item;
    const removal = options.dryRun ? null : await collect(env, item);
    if (removal?.result === 'failed') errors.push(removal.error);
    if (removal?.result === 'failed' && removal.error.code === 'ABORTED') break;
    rows.push({ what: nameOf(item), path, bytes, why, result: removal?.result ?? 'would be removed' });
  }
  const gone = rows.filter(({ result }) => result === 'removed' || result === 'would be removed');
  const freedBytes = gone.reduce((sum, { bytes }) => sum + bytes, 0);
  if (options.json) {
    const { troubles, unreadable, overBudgetBytes } = plan;
    printJson(cli, { dryRun: options.dryRun, items: rows, freedBytes, troubles, unreadable, overBudgetBytes });
  } else {
    if (rows.length > 0) cli.stdout.write(table(['WHAT', 'SIZE', 'RESULT', 'PATH', 'WHY'], rows.map(cellsOf)));
    for (const note of notesOf(options, plan, { gone: gone.length, freedBytes })) printNote(cli, note);
  }
  for (const error of errors) printError(cli, error);
  cli.exitCode = exitCodeOfAll(errors);
}

/** What is said beside the table. */
function notesOf(
  options: CollectionOptions,
  plan: CollectionPlan,
  { gone, freedBytes }: { readonly gone: number; readonly freedBytes: number },
): readonly string[] {
  const things = `${gone} ${gone === 1 ? 'thing' : 'things'}`;
  const freed = bytesText(freedBytes);
  const done = options.dryRun
    ? `${things} would be removed, which frees ${freed}; nothing was changed`
    : `${things} removed, ${freed} freed`;
  const notes = [plan.items.length === 0 ? 'there is nothing to remove' : done];
  for (const { what, next } of plan.troubles) notes.push(`${what}; to end it: ${next}`);
  for (const path of plan.unreadable) notes.push(`no image is removed: ${path} does not tell which one it stands on`);
  if (plan.overBudgetBytes > 0) {
    notes.push(
      `the image cache stays ${bytesText(plan.overBudgetBytes)} over its budget: what is left is in use or has a name`,
    );
  }
  return notes;
}

function cellsOf({ what, bytes, result, path, why }: Row): readonly string[] {
  return [what, bytesText(bytes), result, path, why];
}

function nameOf(item: Collectable): string {
  if (item.kind === 'download rest') return item.rest.kind;
  if (item.kind === 'run') return `VMs of ${item.run.lease?.owner?.command ?? 'a program'}`;
  return 'vm' in item ? `${item.kind} ${item.vm}` : item.kind;
}
