/** Fetches an image in a process of its own: `URL DIRECTORY`. Prints its path. */
import { fetchImage } from '../../src/image/cache.js';
import { silentReporter } from '../../src/model/event.js';

const [url = '', directory = ''] = process.argv.slice(2);
const options = {
  directory,
  command: 'vmctl up',
  signal: new AbortController().signal,
  reporter: silentReporter,
  environment: {},
};
process.stdout.write(await fetchImage({ url, checksum: null }, options));
