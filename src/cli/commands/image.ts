import type { CommandModule } from '../cli.js';
import { runCollection } from '../collection.js';
import { addSubcommand } from '../help.js';
import { push } from '../image-push.js';
import { type PullFlags, inspect, list, pull } from '../images.js';
import { listPresets } from '../image-presets.js';
import { PULL_OPTION, ageOption, bytesOption } from '../options.js';

interface PruneFlags {
  readonly dryRun: boolean;
  readonly olderThan?: number;
  readonly keepSize?: number;
  readonly json: boolean;
}

export const command: CommandModule = {
  configure(program, cli) {
    addSubcommand(program, 'pull', {
      summary: 'download an image into the cache and print its path',
      examples: ['vmctl image pull debian-12', 'vmctl image pull https://cloud.example.org/debian.qcow2 --name debian'],
    })
      .argument('<image>', 'a URL of a qcow2 or raw disk image, or a name that "image presets" lists')
      .option('--name <name>', 'also give it a name: images/NAME leads to it, and it is kept until the name moves on')
      .option(
        '--checksum <checksum>',
        'what its bytes have to be: sha256:HEX, sha512:HEX or the URL of a SHA256SUMS file',
      )
      .option(...PULL_OPTION)
      .action((image: string, flags: PullFlags) => pull(cli, image, flags));
    addSubcommand(program, 'list', {
      summary: 'list the images in the cache',
      examples: ['vmctl image list', 'vmctl image list --verify'],
    })
      .option('--verify', 'read every image, and tell which are not what they were when they came', false)
      .action((flags: { readonly json: boolean; readonly verify: boolean }) => list(cli, flags));
    addSubcommand(program, 'presets', {
      summary: 'list the public images that image-preset in a VMFile names',
      examples: ['vmctl image presets', 'vmctl image presets --json'],
    }).action((flags: { readonly json: boolean }) => listPresets(cli, flags.json));
    addSubcommand(program, 'inspect', {
      summary: 'show what an image is, and whether vmctl can use it',
      examples: ['vmctl image inspect disk.qcow2', 'vmctl image inspect debian --json'],
    })
      .argument('<image>', 'a path, or the URL or name of an image in the cache')
      .action((image: string, flags: { readonly json: boolean }) => inspect(cli, image, flags.json));
    addSubcommand(program, 'push', {
      summary: 'put an image into a registry, and print the reference that names it for ever',
      examples: [
        'vmctl image push disk.qcow2 oci://ghcr.io/me/disk:1.0',
        'vmctl image push debian oci://localhost:5000/debian:12 --json',
      ],
    })
      .argument('<image>', 'a path, or the URL or name of an image in the cache')
      .argument('<reference>', 'oci://REGISTRY/REPOSITORY:TAG, where docker login has logged in')
      .option('--arch <name>', 'the processor that the image is for, as amd64 or arm64 (default: that of this host)')
      .action((image: string, reference: string, flags: { readonly arch?: string; readonly json: boolean }) =>
        push(cli, { image, reference }, flags),
      );
    addSubcommand(program, 'prune', {
      summary: 'remove images that no VM uses, and what broken downloads have left',
      examples: ['vmctl image prune --dry-run --older-than 30d', 'vmctl image prune --keep-size 20GiB'],
    })
      .option('-n, --dry-run', 'only say what would be removed and what that frees', false)
      .option('--older-than <age>', 'images that no VM has used for so long, as 30d', ageOption)
      .option(
        '--keep-size <size>',
        'images, the longest unused first, until so much is left, as 20GiB (default: the setting images.budget)',
        bytesOption,
      )
      .action(({ dryRun, json, olderThan, keepSize }: PruneFlags) =>
        runCollection(cli, { command: 'image prune', scope: 'images', dryRun, json, olderThan, budget: keepSize }),
      );
  },
};
