import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { takeScreenshot } from '../../../tasks/screenshot.js';
import { VmctlError } from '../../errors.js';
import type { Cli, CommandModule } from '../cli.js';
import { printNote } from '../report.js';
import { findEntry, openReader } from '../session.js';

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('<name>', 'the VM, which runs or is suspended')
      .argument('[file]', 'where the picture goes, or - for stdout (default: NAME.png in this folder)')
      .action((name: string, file: string | undefined) => screenshot(cli, name, file ?? `${name}.png`));
  },
};

async function screenshot(cli: Cli, name: string, file: string): Promise<void> {
  const env = openReader(cli, 'screenshot');
  const picture = await takeScreenshot(env, await findEntry(env, name));
  if (file === '-') {
    if (cli.stdout.isTTY === true) {
      throw new VmctlError('USAGE', 'a terminal cannot show a PNG', { hint: 'Name a file, or redirect stdout.' });
    }
    cli.stdout.write(picture);
    return;
  }
  const path = resolve(cli.cwd, file);
  try {
    await writeFile(path, picture);
  } catch (cause) {
    const words = cause instanceof Error ? cause.message : String(cause);
    throw new VmctlError('FILE_NOT_FOUND', `cannot write ${path}: ${words}`, { cause, fields: { path } });
  }
  printNote(cli, `the screen of VM "${name}" is in ${file}`);
}
