import { fetchImage } from '../../image/cache.js';
import { inspectImage } from '../../image/qemu-img.js';
import type { Cli, CommandModule } from '../cli.js';
import { printJson, printNote } from '../report.js';
import { openSession } from '../session.js';
import { bytesText, progressReader } from '../../../tasks/progress-text.js';

export const command: CommandModule = {
  configure(program, cli) {
    program
      .command('pull')
      .summary('download an image into the cache and print its path')
      .description(
        'Download an image into the cache and print its path.\n\nExamples:\n  $ vmctl image pull https://cloud.example.org/debian.qcow2\n  $ vmctl image pull URL --json',
      )
      .argument('<url>', 'https:// or http:// URL of a qcow2 or raw disk image')
      .option('--json', 'print JSON', false)
      .action((url: string, flags: { readonly json: boolean }) => pull(cli, url, flags.json));
  },
};

async function pull(cli: Cli, url: string, json: boolean): Promise<void> {
  const { env } = await openSession(cli, 'image pull');
  const read = progressReader();
  let last = 0;
  env.events.subscribe((event) => {
    if (event.type === 'progress' && event.time - last < 1000) return;
    last = event.time;
    const text = read(event);
    if (text !== null) printNote(cli, text);
  });
  const reporter = env.events.reporter(null, 'resolve');
  const path = await fetchImage(
    { url, checksum: null },
    { directory: env.paths.images, command: env.command, signal: cli.signal, reporter, environment: cli.variables },
  );
  const image = await inspectImage(path, { signal: cli.signal });
  if (json) printJson(cli, { url, path, format: image.format, virtualBytes: image.virtualBytes });
  else cli.stdout.write(`${path}\n`);
  if (!json) printNote(cli, `${image.format}, ${bytesText(image.virtualBytes)} of disk`);
}
