/** The server's side of a WebSocket, as far as a serial console needs it (RFC 6455). */
import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';

const OPCODE = { text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

export class ServerSocket {
  readonly #socket: Duplex;
  #rest: Buffer = Buffer.alloc(0);
  /** Told of each frame of the client; an empty one with `close`. */
  onMessage: (kind: 'text' | 'binary' | 'close', bytes: Buffer) => void = () => {};

  /** Answers the request for an upgrade with 101. */
  constructor(request: IncomingMessage, socket: Duplex) {
    this.#socket = socket;
    const key = request.headers['sec-websocket-key'] ?? '';
    const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ${accept}\r\n\r\n`,
    );
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      this.#rest = Buffer.concat([this.#rest, chunk]);
      while (this.#takeFrame());
    });
  }

  binary(bytes: Uint8Array): void {
    this.#send(OPCODE.binary, Buffer.from(bytes));
  }

  text(words: string): void {
    this.#send(OPCODE.text, Buffer.from(words));
  }

  close(code: number, reason: string): void {
    const payload = Buffer.alloc(2 + Buffer.byteLength(reason));
    payload.writeUInt16BE(code);
    payload.write(reason, 2);
    this.#send(OPCODE.close, payload);
    this.#socket.end();
  }

  /** Ends the connection without a word. */
  drop(): void {
    this.#socket.destroy();
  }

  #send(opcode: number, payload: Buffer): void {
    if (this.#socket.destroyed || this.#socket.writableEnded) return;
    const { length } = payload;
    const head = Buffer.alloc(length < 126 ? 2 : 4);
    head[0] = 0x80 | opcode;
    head[1] = length < 126 ? length : 126;
    if (length >= 126) head.writeUInt16BE(length, 2);
    this.#socket.write(Buffer.concat([head, payload]));
  }

  /** Whether there was a whole one. Frames of a client are masked, and none of these is longer than 64 KiB. */
  #takeFrame(): boolean {
    const bytes = this.#rest;
    const short = (bytes[1] ?? 0) & 0x7f;
    const start = short === 126 ? 4 : 2;
    if (bytes.length < start + 4) return false;
    const length = short === 126 ? bytes.readUInt16BE(2) : short;
    if (bytes.length < start + 4 + length) return false;
    const mask = bytes.subarray(start, start + 4);
    const payload = Buffer.from(bytes.subarray(start + 4, start + 4 + length));
    for (const [i, byte] of payload.entries()) payload[i] = byte ^ (mask[i % 4] ?? 0);
    this.#rest = bytes.subarray(start + 4 + length);
    const opcode = (bytes[0] ?? 0) & 0x0f;
    if (opcode === OPCODE.ping) this.#send(OPCODE.pong, payload);
    if (opcode === OPCODE.text) this.onMessage('text', payload);
    if (opcode === OPCODE.binary) this.onMessage('binary', payload);
    if (opcode === OPCODE.close) {
      this.onMessage('close', payload);
      this.#send(OPCODE.close, payload);
      this.#socket.end();
    }
    return true;
  }
}
