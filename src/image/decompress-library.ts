/**
 * Decompression without the system's tools: slower, and a way where no tool is installed. The libraries differ in how
 * they take and give bytes; here each is a generator that holds no more than a block at a time.
 */
import type { Buffer } from 'node:buffer';
import { Readable } from 'node:stream';
import { ReadableStream } from 'node:stream/web';

/** Bytes in, decompressed bytes out. Throws the library's error for what is damaged or cut off. */
export type Decompressor = (input: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>;

export const LIBRARIES: Readonly<Record<'zstd' | 'xz' | 'bzip2', Decompressor>> = { zstd, xz, bzip2 };

async function* zstd(input: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  const { Decompress } = await import('fzstd');
  const ready: Uint8Array[] = [];
  const decompressor = new Decompress((chunk) => ready.push(chunk));
  for await (const chunk of input) {
    decompressor.push(chunk);
    yield* ready.splice(0);
  }
  decompressor.push(new Uint8Array(), true);
  yield* ready;
}

async function* xz(input: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  const { default: library } = await import('xz-decompress');
  const stream = new library.XzReadableStream(ReadableStream.from(input));
  for await (const chunk of Readable.fromWeb(stream)) yield chunk;
}

async function* bzip2(input: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  const { default: unbzip2 } = await import('unbzip2-stream');
  const ready: Buffer[] = [];
  let failure: Error | null = null;
  const stream = unbzip2();
  stream.on('data', (chunk: Buffer) => ready.push(chunk));
  stream.on('error', (error: unknown) => {
    failure = error instanceof Error ? error : new Error(String(error));
  });
  const given = function* (): Generator<Buffer, void> {
    yield* ready.splice(0);
    if (failure !== null) throw failure;
  };
  // It decodes while it is written to, whatever its buffer says; so it is given the next bytes when these are out.
  for await (const chunk of input) {
    stream.write(chunk);
    yield* given();
  }
  stream.end();
  yield* given();
}
