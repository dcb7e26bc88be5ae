/** Serves one file over HTTP on a loopback port, and counts how often it was asked for. */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';

export interface FileServer extends AsyncDisposable {
  readonly url: string;
  readonly requests: () => number;
}

/** With `overMs` the file comes in ten parts over that time, so that there is something to watch. */
export async function serveFile(path: string, { overMs = 0 } = {}): Promise<FileServer> {
  let requests = 0;
  const { size } = await stat(path);
  const server = createServer((_request, response) => {
    requests += 1;
    response.writeHead(200, { 'content-length': size });
    void (async () => {
      for await (const part of createReadStream(path, { highWaterMark: Math.ceil(size / 10) })) {
        response.write(part);
        await pause(overMs / 10);
      }
      response.end();
    })();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  return {
    url: `http://127.0.0.1:${address.port}/guest.qcow2`,
    requests: () => requests,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
