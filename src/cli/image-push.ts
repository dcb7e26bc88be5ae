/** `image push`: an image of this host goes to a registry, from where others pull it. */
import { bytesText } from '../../tasks/progress-text.js';
import { VmctlError } from '../errors.js';
import { platformOf } from '../image/oci/manifest.js';
import { pushImage } from '../image/oci/push.js';
import { registryOptions } from '../image/oci/registry.js';
import { inspectImage } from '../image/qemu-img.js';
import { type OciReference, ociText, readOciReference } from '../model/oci-reference.js';
import type { Cli } from './cli.js';
import { findImage, noteProgress } from './images.js';
import { printJson, printNote } from './report.js';
import { openReader } from './session.js';

/** Prints the reference by digest of what is in the registry now. */
export async function push(
  cli: Cli,
  what: { readonly image: string; readonly reference: string },
  { arch = process.arch, json }: { readonly arch?: string; readonly json: boolean },
): Promise<void> {
  const reference = readTarget(what.reference);
  const platform = platformOf(arch);
  if (!/^[a-z0-9]{2,20}$/.test(platform.architecture)) {
    throw new VmctlError('USAGE', `${JSON.stringify(arch)} is no processor`, { hint: 'Use amd64 or arm64.' });
  }
  const env = openReader(cli, 'image push');
  noteProgress(cli, env);
  const image = await inspectImage(await findImage(cli, env, what.image), { signal: cli.signal });
  const reporter = env.events.reporter(null, 'resolve');
  const { variables: environment, home, signal } = cli;
  const options = registryOptions(reference, { environment, home, signal, reporter });
  try {
    const pushed = await pushImage(image, { reference, platform }, options);
    const text = ociText(pushed.reference);
    if (json) {
      const { manifestDigest, digest, bytes, uploaded } = pushed;
      const { path, format } = image;
      const tagged = ociText(reference);
      printJson(cli, { reference: text, tagged, manifestDigest, path, format, digest, bytes, uploaded, ...platform });
      return;
    }
    cli.stdout.write(`${text}\n`);
    const how = pushed.uploaded ? '' : ', which the registry had already';
    printNote(cli, `${image.format} for ${platform.architecture}, ${bytesText(pushed.bytes)}${how}`);
  } finally {
    await options.dispatcher.destroy();
  }
}

function readTarget(text: string): OciReference {
  const read = readOciReference(text);
  if (read.ok && read.value.tag !== null) return read.value;
  const problem = read.ok ? 'a digest comes of what is pushed' : read.problem;
  const shown = text.replace(/^(oci:\/\/)[^/]*@/i, '$1…@');
  throw new VmctlError('USAGE', `cannot push to ${JSON.stringify(shown)}: ${problem}`, {
    hint: 'Write oci://REGISTRY/REPOSITORY:TAG.',
  });
}
