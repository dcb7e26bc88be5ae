// From a fresh clone to two running virtual machines, with everything that this takes.
import { execFileSync } from 'node:child_process';
import { rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { buildGuest, buildsGuests, ensureNodePackages, ensurePrograms, giveUp, root, run, say } from './setup.mjs';

const example = join('examples', 'quickstart');
const vmFile = join(example, 'VMFile.kdl');
const vmctl = join('dist', 'cli.js');
const DEBIAN_CLOUD_IMAGE = 'https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-genericcloud-amd64.qcow2';

if (process.arch !== 'x64') giveUp(`The quickstart runs on x86-64 hosts only so far, and this one is ${process.arch}.`);
ensureNodePackages();
ensurePrograms(['qemu-system-x86_64', 'qemu-img', 'ssh']);
say('building vmctl: npm run build');
run(process.execPath, ['scripts/build.mjs']);
const image = guestImage();
const link = join(root, example, 'guest.qcow2');
rmSync(link, { force: true });
symlinkSync(image, link);

say(`vmctl up --file ${vmFile}`);
try {
  run(process.execPath, [vmctl, 'up', '--file', vmFile]);
} catch (error) {
  process.exit(typeof error.status === 'number' ? error.status : 1);
}
say('vmctl list');
run(process.execPath, [vmctl, 'list'], { stdio: 'inherit' });
process.stdout.write(`
Both are real machines. Get in:

    node ${vmctl} ssh web
    node ${vmctl} exec db -- uname -a

Clean up:

    node ${vmctl} down --destroy --file ${vmFile}
`);

function guestImage() {
  if (buildsGuests()) {
    say('building a small guest from this distribution’s packages (once): test/guest/build.sh pocket');
    return buildGuest('pocket');
  }
  say(`downloading Debian’s public cloud image (once): ${DEBIAN_CLOUD_IMAGE}`);
  const pull = [vmctl, 'image', 'pull', DEBIAN_CLOUD_IMAGE];
  return execFileSync(process.execPath, pull, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 2] }).trim();
}
