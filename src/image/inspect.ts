/** What an image is, for somebody who asks: also one that vmctl refuses, with the reason. */
import { stat } from 'node:fs/promises';
import * as v from 'valibot';
import { VmctlError } from '../errors.js';
import { diskUsage } from '../util/disk-usage.js';
import { type QemuImgOptions, inspectImage, qemuImgInfo } from './qemu-img.js';

/** What `qemu-img info` tells of the insides of a qcow2 image. */
const Details = v.object({
  'cluster-size': v.optional(v.number()),
  snapshots: v.optional(v.array(v.object({ name: v.string() }))),
  'format-specific': v.optional(
    v.object({
      data: v.object({ compat: v.optional(v.string()), 'compression-type': v.optional(v.string()) }),
    }),
  ),
});

interface FileFacts {
  readonly path: string;
  readonly fileBytes: number;
  /** What it takes of the disk. */
  readonly diskBytes: number;
}

/** An image that vmctl can use, or a file that it refuses. */
export type ImageDescription =
  | (FileFacts & {
      readonly usable: true;
      readonly format: 'qcow2' | 'raw';
      readonly virtualBytes: number;
      readonly clusterBytes: number | null;
      readonly compatibility: string | null;
      readonly compression: string | null;
      readonly snapshots: readonly string[];
    })
  | (FileFacts & { readonly usable: false; readonly problem: string; readonly hint: string | null });

/**
 * Looks at an image as `inspectImage` does, so nothing that it names is opened. Throws `IMAGE_NOT_FOUND`,
 * `HOST_UNSUPPORTED` without qemu-img, and `ABORTED`.
 */
export async function describeImage(path: string, options: QemuImgOptions = {}): Promise<ImageDescription> {
  try {
    const image = await inspectImage(path, options);
    const file = await fileFacts(image.path);
    const shared = { ...file, usable: true as const, format: image.format, virtualBytes: image.virtualBytes };
    if (image.format === 'raw') {
      return { ...shared, clusterBytes: null, compatibility: null, compression: null, snapshots: [] };
    }
    const details = v.parse(Details, await qemuImgInfo(image.path, options));
    const { compat, 'compression-type': compression } = details['format-specific']?.data ?? {};
    return {
      ...shared,
      clusterBytes: details['cluster-size'] ?? null,
      compatibility: compat ?? null,
      compression: compression ?? null,
      snapshots: (details.snapshots ?? []).map(({ name }) => name),
    };
  } catch (error) {
    if (!(error instanceof VmctlError) || error.code !== 'IMAGE_INVALID') throw error;
    const { reason } = error.fields;
    const problem = typeof reason === 'string' ? reason : error.message;
    return { ...(await fileFacts(path)), usable: false, problem, hint: error.hint };
  }
}

async function fileFacts(path: string): Promise<FileFacts> {
  return { path, fileBytes: (await stat(path)).size, diskBytes: await diskUsage(path) };
}
