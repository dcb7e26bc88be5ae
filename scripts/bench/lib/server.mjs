// Serves the files of a folder on a loopback port, with ranges, and counts the bytes that it sends. Prints its port.
//
//     node server.mjs FOLDER
//     GET /stats    {"bytes": N} since the last time that somebody asked
import { createReadStream, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { basename, join } from 'node:path';

const [folder] = process.argv.slice(2);
let bytes = 0;

const server = createServer((request, response) => {
  if (request.url === '/stats') {
    response.end(JSON.stringify({ bytes }));
    bytes = 0;
    return;
  }
  const path = join(folder, basename(request.url));
  const { size } = statSync(path);
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
  response.writeHead(from === 0 ? 200 : 206, {
    etag: '"bench"',
    'content-length': size - from,
    ...(from === 0 ? {} : { 'content-range': `bytes ${from}-${size - 1}/${size}` }),
  });
  const file = createReadStream(path, { start: from, highWaterMark: 1024 ** 2 });
  file.on('data', (chunk) => (bytes += chunk.length));
  file.pipe(response);
  response.on('close', () => file.destroy());
});
server.listen(0, '127.0.0.1', () => process.stdout.write(`${server.address().port}\n`));
