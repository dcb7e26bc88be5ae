/** What the files of the state directory must look like to be believed. */
import * as v from 'valibot';
import { ERROR_CODES, type ErrorCode } from './errors.js';
import { FAULT_STEPS, SNAPSHOT_STEPS, UP_STEPS } from './model/event.js';
import { FROZEN_KEY, WARM_LEVELS } from './model/warm.js';

const backend = v.picklist(['qemu', 'propolis', 'noop']);

/** What a VM can be called. What starts with a dot is under construction or being removed. */
export const VM_NAME = /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$/;

export const entrySchema = v.object({
  // Paths are made of it: no other name may come from a file that anybody can have edited.
  name: v.pipe(v.string(), v.regex(VM_NAME)),
  group: v.optional(v.nullable(v.string()), null),
  backend,
  directory: v.string(),
  project: v.nullable(v.string()),
  createdAt: v.string(),
});

export const registrySchema = v.object({
  schemaVersion: v.literal(1),
  vms: v.pipe(
    v.record(v.string(), entrySchema),
    v.check((vms) => Object.entries(vms).every(([key, { name }]) => key === name)),
  ),
});

const seconds = v.nullable(v.number());

const run = v.picklist(['always', 'once', 'on-change', 'each']);

const stepSchema = v.variant('kind', [
  v.object({
    kind: v.literal('shell'),
    command: v.variant('kind', [
      v.object({ kind: v.literal('inline'), text: v.string() }),
      v.object({ kind: v.literal('script'), path: v.string() }),
    ]),
    environment: v.record(v.string(), v.string()),
    run,
    timeoutSeconds: seconds,
  }),
  v.object({
    kind: v.literal('file'),
    source: v.string(),
    destination: v.string(),
    run,
    timeoutSeconds: seconds,
  }),
]);

const imageSchema = v.variant('kind', [
  v.object({ kind: v.literal('file'), path: v.string() }),
  v.object({
    kind: v.literal('url'),
    url: v.string(),
    checksum: v.nullable(
      v.variant('algorithm', [
        v.object({ algorithm: v.picklist(['sha256', 'sha512']), digest: v.string() }),
        v.object({ algorithm: v.literal('list'), url: v.string() }),
      ]),
    ),
  }),
]);

const lanSchema = v.object({
  name: v.string(),
  address: v.string(),
  members: v.array(v.object({ vm: v.string(), address: v.string(), names: v.array(v.string()) })),
});

const networkSchema = v.variant('kind', [
  v.object({
    kind: v.literal('user'),
    forwards: v.array(v.object({ host: v.number(), guest: v.number() })),
    lan: v.optional(v.nullable(lanSchema), null),
  }),
  v.object({ kind: v.literal('tap'), bridge: v.string() }),
  v.object({ kind: v.literal('vnic'), vnic: v.string() }),
  v.object({ kind: v.literal('none') }),
]);

const cloudInitSchema = v.object({
  hostname: v.string(),
  userData: v.variant('kind', [
    v.object({ kind: v.literal('generated-key') }),
    v.object({ kind: v.literal('public-key'), path: v.string() }),
    v.object({ kind: v.literal('raw'), path: v.string() }),
  ]),
  networkConfig: v.nullable(v.string()),
});

const readySchema = v.object({
  conditions: v.array(
    v.variant('kind', [
      v.object({ kind: v.literal('port'), port: v.number() }),
      v.object({ kind: v.literal('http'), path: v.string(), port: v.number(), status: v.nullable(v.number()) }),
      v.object({ kind: v.literal('log'), pattern: v.string(), flags: v.string() }),
      v.object({ kind: v.literal('shell'), command: v.string() }),
      v.object({ kind: v.literal('file'), path: v.string() }),
      v.object({ kind: v.literal('unit'), unit: v.string() }),
      v.object({ kind: v.literal('cloud-init') }),
    ]),
  ),
  timeoutSeconds: seconds,
});

const groupSchema = v.optional(v.nullable(v.object({ name: v.string(), index: v.number() })), null);

const specSchema = v.object({
  name: v.string(),
  group: groupSchema,
  project: v.nullable(v.string()),
  image: imageSchema,
  vcpus: v.number(),
  memoryMib: v.number(),
  diskBytes: v.nullable(v.number()),
  firmware: v.optional(v.picklist(['bios', 'uefi']), 'bios'),
  network: networkSchema,
  cloudInit: v.nullable(cloudInitSchema),
  ssh: v.object({
    declared: v.boolean(),
    user: v.string(),
    privateKey: v.nullable(v.string()),
    timeoutSeconds: seconds,
  }),
  dependsOn: v.array(v.string()),
  ready: v.optional(v.nullable(readySchema), null),
  provision: v.array(stepSchema),
  warm: v.optional(v.nullable(v.picklist(WARM_LEVELS)), null),
});

export const handleSchema = v.object({
  name: v.string(),
  backend,
  directory: v.string(),
  uuid: v.string(),
  mac: v.nullable(v.string()),
  spec: specSchema,
  image: v.object({
    path: v.string(),
    format: v.picklist(['qcow2', 'raw']),
    virtualBytes: v.number(),
    file: v.optional(v.object({ bytes: v.number(), modifiedMs: v.number() })),
  }),
  createdAt: v.string(),
});

/** What is believed of a handle that is not whole, field by field; the rest is not looked at. */
export const remainsSchema = v.object({
  backend: v.fallback(v.optional(backend), undefined),
  createdAt: v.fallback(v.optional(v.pipe(v.string(), v.isoTimestamp())), undefined),
  spec: v.fallback(v.optional(v.object({ project: v.nullable(v.string()), group: groupSchema })), undefined),
});

// A path is made of it.
const frozenKey = v.pipe(v.string(), v.regex(FROZEN_KEY));

const codeSchema = v.custom<ErrorCode>((value) => typeof value === 'string' && Object.hasOwn(ERROR_CODES, value));

export const recordSchema = v.object({
  provisioning: v.picklist(['pending', 'done', 'failed']),
  steps: v.array(v.object({ number: v.number(), digest: v.string() })),
  ready: v.optional(v.nullable(v.object({ ...readySchema.entries, since: v.nullable(v.string()) }))),
  consoleStart: v.optional(v.object({ from: v.number(), frozen: v.nullable(frozenKey) })),
  hosts: v.optional(v.nullable(v.array(v.string())), null),
  warm: v.optional(v.nullable(v.object({ key: frozenKey, settled: v.boolean() })), null),
  lastFailure: v.nullable(
    v.object({
      step: v.picklist([
        ...UP_STEPS,
        'stop',
        'destroy',
        'suspend',
        'resume',
        'reset',
        ...FAULT_STEPS,
        ...SNAPSHOT_STEPS,
      ]),
      time: v.string(),
      error: v.object({
        code: codeSchema,
        message: v.string(),
        hint: v.nullable(v.string()),
        details: v.nullable(v.string()),
        fields: v.record(v.string(), v.nullable(v.union([v.string(), v.number(), v.boolean()]))),
      }),
    }),
  ),
});
