/** Steps that can be taken back: when a later one fails, the earlier ones are undone in reverse. */
import type { StageContext } from '../../model/event.js';

export class Undo {
  readonly #steps: { readonly what: string; readonly back: () => Promise<unknown> }[] = [];

  /** How to take back what was just done, or is about to be. */
  add(what: string, back: () => Promise<unknown>): void {
    this.#steps.push({ what, back });
  }

  /** Does the work; when it throws, takes every step back, and tells of those that cannot be. */
  static async around<T>(context: StageContext, work: (undo: Undo) => Promise<T>): Promise<T> {
    const undo = new Undo();
    try {
      return await work(undo);
    } catch (error) {
      for (const { what, back } of undo.#steps.toReversed()) {
        await back().catch((reason: unknown) => {
          context.reporter.log(`${what} is left behind: ${reason instanceof Error ? reason.message : String(reason)}`);
        });
      }
      throw error;
    }
  }
}
