import { sshAccess } from '../../../tasks/access.js';
import { copyBetween } from '../../../tasks/copy.js';
import { bytesText, rateReader } from '../../../tasks/progress-text.js';
import { reachableVm } from '../../../tasks/select-vm.js';
import { toVmctlError } from '../../errors.js';
import { connectSsh } from '../../ssh/client.js';
import { countText } from '../../ssh/transfer.js';
import type { Cli, CommandModule } from '../cli.js';
import { copyRequest } from '../copy-argument.js';
import { EXIT } from '../exit-code.js';
import { fittingHint } from '../login-hint.js';
import { printNote } from '../report.js';
import { findEntry, openReader, reaching } from '../session.js';
import { userKey } from '../../../tasks/ssh-login.js';

interface CpFlags {
  readonly user?: string;
  readonly key?: string;
}

const RULES = `
As with cp -r: if DST is a folder that is there, SRC goes into it under its own name, else DST is the new name; the
folder above has to be there. A slash at the end of DST asks for a folder; "SRC/." means what is in the folder SRC.
In the VM, a relative or empty path begins in the user's home directory: "vmctl cp web: ." copies all of that.
Permission bits are kept, owners are not. Symbolic links in a folder stay links and are not followed; SRC itself is.
Sockets, devices and named pipes in a folder are left out, and told.
A file on this machine appears when it is complete. One in the VM is written in place, as scp does it: after Ctrl-C
or a failure it may be incomplete until the copy is repeated.`;

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('<src>', 'NAME:PATH in a VM, or a path on this machine (./a:b where it has a colon)')
      .argument('<dst>', 'the same; exactly one of the two is in a VM')
      .option('--user <user>', 'log in as this user')
      .option('--key <path>', 'a private key to offer')
      .addHelpText('after', RULES)
      .action((src: string, dst: string, flags: CpFlags) => cp(cli, { src, dst, flags }));
  },
};

async function cp(cli: Cli, words: { src: string; dst: string; flags: CpFlags }): Promise<void> {
  const { user } = words.flags;
  const request = copyRequest(words.src, words.dst);
  const env = openReader(cli, 'cp');
  const { vm, access, endpoint } = await reaching(cli, async () => {
    const found = await reachableVm(env, await findEntry(env, request.name));
    const key = await userKey(cli, words.flags.key);
    return { ...found, access: await sshAccess(found.vm.handle, { home: cli.home, user, key }) };
  });
  cli.onInterrupt = () => 'stopping the copy';
  try {
    await using connection = await connectSsh({ ...access, endpoint }, { signal: cli.signal });
    const { destination, ...summary } = await copyBetween(
      connection,
      { ...request, cwd: cli.cwd },
      {
        signal: cli.signal,
        onProgress: progressPrinter(cli),
        onSkipped: (path) => printNote(cli, `${path} is left out: it is neither a file nor a folder`),
      },
    );
    printNote(cli, `copied ${countText(summary)}, ${bytesText(summary.bytes)}, to ${destination}`);
  } catch (error) {
    const told = fittingHint(toVmctlError(error), vm.handle.spec);
    if (told.code.startsWith('SSH_')) cli.exitCode = EXIT.transport;
    if (request.direction === 'in' && (told.code === 'ABORTED' || told.code === 'SSH_TRANSPORT')) {
      printNote(cli, `what is at ${words.dst} now may be incomplete; the same command again completes it`);
    }
    throw told;
  }
}

const PROGRESS_EVERY_MS = 1_000;
/** A log that nobody watches needs fewer lines. */
const PROGRESS_EVERY_MS_IN_LOG = 5_000;

/** Says nothing of a copy that is shorter than that. */
function progressPrinter(cli: Cli): (bytes: number, totalBytes: number) => void {
  const every = cli.stderr.isTTY === true ? PROGRESS_EVERY_MS : PROGRESS_EVERY_MS_IN_LOG;
  const read = rateReader();
  let last = Date.now();
  return (bytes, totalBytes) => {
    const time = Date.now();
    const text = read({ time, bytes, totalBytes });
    if (time - last < every) return;
    last = time;
    printNote(cli, text);
  };
}
