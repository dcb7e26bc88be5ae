/** The other side of `Actor`: answers what it is asked, and ends with its parent, or by itself when told to leave. */
import type { Answer } from '../actor.js';

interface Question {
  readonly id: number;
  readonly name: string;
  readonly words: readonly never[];
}

export function serve(functions: Readonly<Record<string, (...words: never[]) => Promise<unknown>>>): void {
  const leave = async () => {
    process.removeAllListeners('disconnect');
    setImmediate(() => process.disconnect());
  };
  const all: Readonly<Record<string, (...words: never[]) => Promise<unknown>>> = {
    ready: async () => null,
    leave,
    ...functions,
  };
  process.on('disconnect', () => process.exit());
  process.on('message', (question: Question) => void answer(question).then((words) => process.send?.(words)));

  async function answer({ id, name, words }: Question): Promise<Answer> {
    try {
      return { id, value: await all[name]?.(...words) };
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? String(error.code) : null;
      return { id, error: { message: error instanceof Error ? error.message : String(error), code } };
    }
  }
}
