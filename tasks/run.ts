/** The only root Listr: it runs the tasks and shows them as a live tree, or as nothing at all. */
import {
  DefaultRenderer,
  Listr,
  ListrDefaultRendererLogLevels,
  ListrLogger,
  type ListrTask,
  PRESET_TIMER,
  figures,
} from 'listr2';
import { TreeOutput } from './tree-output.js';

export interface RunOptions {
  /** `tree` draws on stderr; `silent` leaves the telling to whoever listens to the events. */
  readonly view: 'tree' | 'silent';
}

/** listr2 asks for a renderer's terminal on stdout; ours is stderr, because stdout is for data. */
class StderrTreeRenderer extends DefaultRenderer {
  static override nonTTY = true;
}

/**
 * Runs all tasks to their end. A task that fails does not stop the others, and does not make this reject: how each VM
 * ended is told by its run.
 */
export async function runTasks(tasks: readonly ListrTask[], options: RunOptions): Promise<void> {
  // listr2's own handling of SIGINT ends the process at once; stopping what was begun is the caller's business.
  const common = { concurrent: true, exitOnError: false, registerSignalListeners: false } as const;
  if (options.view === 'silent') {
    await new Listr([...tasks], { ...common, renderer: 'silent' }).run();
    return;
  }
  const logger = new ListrLogger<ListrDefaultRendererLogLevels>({
    processOutput: new TreeOutput(process.stderr),
  });
  await new Listr([...tasks], {
    ...common,
    renderer: StderrTreeRenderer,
    rendererOptions: {
      logger,
      collapseSubtasks: false,
      collapseErrors: false,
      formatOutput: 'truncate',
      // listr2 would show a failed VM by the arrow of one that goes on, told apart by colour alone.
      icon: { [ListrDefaultRendererLogLevels.FAILED_WITH_FAILED_SUBTASKS]: figures.cross },
      timer: { ...PRESET_TIMER, condition: (duration) => duration >= 1000 },
    },
  }).run();
}
