import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ensureRequest } from '../../../src/hypervisor/propolis/instance-spec.js';
import { quiet, temporaryDirectory, vmSpec } from '../../support/fixtures.js';
import { openPropolisLab } from '../lab.js';
import { type OpenApiDocument, differences } from '../../support/open-api.js';

const PARTS = {
  uuid: '3f0f4a2e-7c51-4d0e-9f0b-6d2d3a7f6c11',
  disk: '/dev/zvol/rdsk/rpool/vms/web',
  seed: '/var/lib/vmctl/vms/web/seed.iso',
  vnic: 'vnic0',
};

const example = JSON.parse(
  readFileSync(new URL('../../fixtures/propolis/ensure-request.json', import.meta.url), 'utf8'),
);

const VARIANTS = [
  ['a VM with everything', ensureRequest(vmSpec({ memoryMib: 2048 }), PARTS)],
  ['a VM without a seed', ensureRequest(vmSpec(), { ...PARTS, seed: null })],
  ['a VM without a network', ensureRequest(vmSpec(), { ...PARTS, vnic: null })],
  ['the largest VM', ensureRequest(vmSpec({ vcpus: 32, memoryMib: 1024 ** 2 }), PARTS)],
  ['the smallest VM', ensureRequest(vmSpec({ vcpus: 1, memoryMib: 1 }), { ...PARTS, seed: null, vnic: null })],
] as const;

describe('the request for a VM', () => {
  test('is the known good one, with all four serial ports', () => {
    const { components } = example.init.value.spec;
    for (const num of ['com1', 'com2', 'com3', 'com4']) components[num] = { type: 'serial_port', component: { num } };
    expect(ensureRequest(vmSpec({ memoryMib: 2048 }), PARTS)).toEqual(example);
  });

  test('has no device without its backend, and no backend without its device', () => {
    for (const [, request] of VARIANTS) {
      const components = Object.entries(request.init.value.spec.components);
      const backends = components.filter(([, { type }]) => type.endsWith('_backend')).map(([key]) => key);
      const used = components.flatMap(([, { component }]) => ('backend_id' in component ? [component.backend_id] : []));
      expect(used.toSorted()).toEqual(backends.toSorted());
    }
  });

  test('is not made for more vCPUs than there can be', () => {
    expect(() => ensureRequest(vmSpec({ vcpus: 33 }), PARTS)).toThrow(
      expect.objectContaining({
        code: 'UNSUPPORTED',
        message: 'VM "web": 33 vCPUs are more than the 32 of bhyve',
        hint: 'Set "vcpus" to 32 or less.',
      }),
    );
  });
});

/** The schema of what a request carries. */
const SCHEMAS: Readonly<Record<string, string>> = {
  'PUT /instance': 'InstanceEnsureRequest',
  'PUT /instance/state': 'InstanceStateRequested',
  'GET /instance/state-monitor': 'InstanceStateMonitorRequest',
};

describe('the published interface', () => {
  const published = ['propolis-server-1.0.0-833484.json', 'propolis-server.json'].map((name) => ({
    name,
    path: new URL(`../../../../shared/notes/propolis/${name}`, import.meta.url),
  }));
  const documents = published.flatMap(({ name, path }): { name: string; document: OpenApiDocument }[] =>
    existsSync(path) ? [{ name, document: JSON.parse(readFileSync(path, 'utf8')) }] : [],
  );

  test.skipIf(documents.length === 0)(
    'accepts every request that vmctl makes, in its oldest version and its newest',
    () => {
      for (const { name, document } of documents) {
        for (const [what, request] of VARIANTS) {
          expect([name, what, differences(document, 'InstanceEnsureRequest', request)]).toEqual([name, what, []]);
        }
        for (const change of ['Run', 'Stop', 'Reboot']) {
          expect([name, differences(document, 'InstanceStateRequested', change)]).toEqual([name, []]);
        }
      }
    },
  );

  test('accepts whatever is sent for VMs that live from their making to their end', async () => {
    await using lab = await openPropolisLab();
    await using folder = await temporaryDirectory();
    const bodies = join(folder.path, 'bodies');
    await lab.behave({ bodies });
    const web = await lab.run();
    const bare = await lab.run({ name: 'bare', network: { kind: 'none' }, cloudInit: null, vcpus: 2 });
    await lab.backend.reset(web, quiet);
    await lab.backend.stop(web, { graceMs: 0 }, quiet);
    await lab.backend.destroy(bare.handle, quiet);
    const sent: readonly (readonly [string, unknown])[] = readFileSync(bodies, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line));
    expect(new Set(sent.map(([request]) => request))).toEqual(new Set(Object.keys(SCHEMAS)));
    for (const { name, document } of documents) {
      for (const [request, body] of sent) {
        expect([name, request, differences(document, SCHEMAS[request] ?? '', body)]).toEqual([name, request, []]);
      }
    }
  });

  test.skipIf(documents.length === 0)('would not accept a request with a mistake in it', () => {
    for (const { document } of documents) {
      const request = structuredClone(example);
      request.init.value.spec.board.cpus = 256;
      request.init.value.spec.components.com1.component.num = 'com5';
      delete request.properties.metadata.sled_id;
      const found = differences(document, 'InstanceEnsureRequest', request).join('\n');
      expect(found).toContain('properties.metadata.sled_id is missing');
      expect(found).toContain('cpus is no such number');
      expect(found).toContain('components.com1');
    }
  });
});
