/** The TypeScript examples of README and docs, as they stand there. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export interface Example {
  /** `README.md, example 1` */
  readonly name: string;
  readonly text: string;
}

export function examples(): readonly Example[] {
  const documents = ['README.md', ...readdirSync(join(ROOT, 'docs')).map((name) => `docs/${name}`)];
  return documents
    .filter((name) => name.endsWith('.md'))
    .toSorted()
    .flatMap((name) => {
      const text = readFileSync(join(ROOT, name), 'utf8');
      const blocks = [...text.matchAll(/^```ts\n(.*?)^```$/gms)];
      return blocks.map(([, code = ''], i) => ({ name: `${name}, example ${i + 1}`, text: code }));
    });
}
