/** The listr2 tasks of an up and a down, to stand in somebody's own list. */
import type { ListrTask } from 'listr2';
import { type PreparedUp, prepareUp } from './session.js';
import type { Fleet, UpOptions } from './types.js';

/** What the tasks leave in the context of the list, and find there. */
export interface VmsContext<N extends string = string> {
  /** There from the end of `up` to that of `down`. */
  vms?: Fleet<N>;
}

/**
 * A task that brings VMs up, each with its five steps below it, and puts them into the context as `vms`. It fails as
 * `up()` does. The list's own settings hold outside of it; within it, one VM's failure does not stop the others.
 */
function upTask<const N extends string = string>(options: UpOptions<N> = {}): ListrTask<VmsContext<N>> {
  return {
    title: 'virtual machines',
    task: async (_context, task) => {
      const prepared: PreparedUp<N> = await prepareUp(options);
      return task.newListr(
        [
          {
            title: 'up',
            task: (_same, vms) => vms.newListr([...prepared.graph.tasks], { concurrent: true, exitOnError: false }),
          },
          {
            title: 'ready',
            task: async (context) => {
              context.vms = (await prepared.finish()).fleet;
            },
          },
        ],
        { concurrent: false, exitOnError: true },
      );
    },
  };
}

/** A task that ends the VMs of the context; skipped where there are none. */
function downTask<N extends string = string>(): ListrTask<VmsContext<N>> {
  return {
    title: 'virtual machines down',
    skip: ({ vms }) => (vms === undefined ? 'there are none' : false),
    task: async (context) => {
      await context.vms?.down();
      delete context.vms;
    },
  };
}

/** listr2 tasks: `new Listr<VmsContext>([tasks.up({ … }), …, tasks.down()])`. */
export const tasks = { up: upTask, down: downTask } as const;
