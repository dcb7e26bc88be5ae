/** What ssh2 writes to a socket, in as few pieces as possible. */
import type { Writable } from 'node:stream';

/**
 * ssh2 writes each packet in three parts: its length, its content and its authentication code. On a socket that delays
 * nothing each would be a system call here and a segment in the guest. So all that one piece of code writes goes out
 * together as soon as that code has ended.
 */
export function gatherWrites(socket: Writable): void {
  const write = socket.write.bind(socket);
  let gathering = false;
  socket.write = (...parameters: unknown[]): boolean => {
    if (!gathering) {
      gathering = true;
      socket.cork();
      process.nextTick(() => {
        gathering = false;
        socket.uncork();
      });
    }
    return Reflect.apply(write, undefined, parameters);
  };
}
