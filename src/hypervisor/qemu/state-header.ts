/**
 * The first line of a saved state, before QEMU's own bytes: what the state has in it that the command line of the next
 * machine must fit, and that QEMU does not tell. It is a part of the file, so that whoever restores it need know nothing.
 */
import { open } from 'node:fs/promises';
import * as v from 'valibot';

const headerSchema = v.object({
  /** The MAC address that the machine's network card was made with; null for a machine without one. */
  mac: v.nullable(v.string()),
  /** Whether the first address of QEMU's network is another one's: see `network` in `command-line.ts`. */
  readdressed: v.boolean(),
});

export type StateHeader = v.InferOutput<typeof headerSchema>;

/** Far more than a header has. */
const MOST_BYTES = 4096;

/** With the end of the line. */
export function headerLine(header: StateHeader): string {
  return `${JSON.stringify(header)}\n`;
}

/** Null where the file has no such line, and so is no state that vmctl has saved. Throws what `open` does. */
export async function readHeader(
  path: string,
): Promise<{ readonly header: StateHeader /** Where QEMU's bytes begin. */; readonly bytes: number } | null> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MOST_BYTES), 0, MOST_BYTES, 0);
    const end = buffer.subarray(0, bytesRead).indexOf('\n');
    const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), headerSchema), buffer.toString('utf8', 0, end));
    return end !== -1 && parsed.success ? { header: parsed.output, bytes: end + 1 } : null;
  } finally {
    await file.close();
  }
}
