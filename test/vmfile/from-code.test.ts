import { expect, test } from 'vitest';
import { diagnosticsToJson } from '../../src/vmfile/diagnostic.js';
import { documentOf } from '../../src/vmfile/from-code.js';
import { parseNodes, parseVmFile } from '../../src/vmfile/parse.js';
import { resolveProject } from '../../src/vmfile/resolve.js';
import { OPTIONS, PROJECT, sourceOf } from './report.js';

/** What somebody writes who does not check types. */
function read(vms: object) {
  const { source, nodes } = documentOf(Object.fromEntries(Object.entries(vms)), PROJECT);
  const parsed = parseNodes(source, nodes);
  const resolved = resolveProject(parsed.project, OPTIONS);
  const diagnostics = [...parsed.diagnostics, ...resolved.diagnostics];
  return { source, specs: resolved.specs, diagnostics, lines: diagnosticsToJson(source, diagnostics) };
}

function readFile(text: string) {
  const parsed = parseVmFile(sourceOf(text));
  const resolved = resolveProject(parsed.project, OPTIONS);
  return { specs: resolved.specs, diagnostics: [...parsed.diagnostics, ...resolved.diagnostics] };
}

test('VMs in code become the same specs as in a VMFile', () => {
  const { specs, diagnostics } = read({
    web: {
      imageUrl: 'https://example.org/web.qcow2',
      checksum: `sha256:${'a'.repeat(64)}`,
      vcpus: 2,
      memory: '2GiB',
      disk: 20,
      firmware: 'uefi',
      network: { kind: 'user', forwards: [80, { host: 8443, guest: 443 }] },
      cloudInit: { hostname: 'web-1', userData: 'user-data.yaml' },
      ssh: { user: 'admin', privateKey: 'id_ed25519', timeout: '5m' },
      dependsOn: ['db'],
      ready: {
        port: [80, 443],
        http: { port: 8080, path: '/health', status: 204 },
        log: ['ready (1.0)', /^up: \d+$/gi],
        shell: 'test -e x',
        file: ['/run/a', '~/b'],
        unit: 'nginx.service',
        cloudInit: true,
        timeout: '90s',
      },
      provision: [
        { inline: 'echo $X', env: { X: 'a b' }, run: 'once' },
        { script: 'setup.sh', timeout: 90 },
        { source: 'site.conf', destination: '/tmp/site.conf' },
      ],
    },
    db: {
      image: 'disk.qcow2',
      network: { kind: 'tap', bridge: 'br1' },
      dependsOn: undefined,
      ready: { http: {}, cloudInit: false, unit: undefined },
    },
    worker: { image: 'disk.qcow2', count: 2, provision: [{ inline: 'hostname', run: 'each' }] },
    bare: { imagePreset: 'debian-12', cloudInit: false, ssh: false, network: 'none', ready: { log: /up/ } },
    one: { image: 'disk.qcow2', network: { kind: 'user', lan: 'back' } },
    two: { image: 'disk.qcow2', network: { kind: 'user', lan: { name: 'back', address: '10.77.0.9' } } },
  });
  expect(diagnostics).toEqual([]);
  const file = readFile(`
    vm "web" {
      image-url "https://example.org/web.qcow2"
      checksum "sha256:${'a'.repeat(64)}"
      vcpus 2
      memory "2GiB"
      disk 20
      firmware "uefi"
      network "user" { forward 0 80; forward 8443 443 }
      cloud-init { hostname "web-1"; user-data "user-data.yaml" }
      ssh { user "admin"; private-key "id_ed25519"; timeout "5m" }
      depends-on "db"
      ready {
        port 80; port 443; http "/health" port=8080 status=204; log #"ready \\(1\\.0\\)"#; log #"^up: \\d+$"# flags="i"
        shell "test -e x"; file "/run/a"; file "~/b"; unit "nginx.service"; cloud-init; timeout "90s"
      }
      provision "shell" run="once" { inline "echo $X"; env X="a b" }
      provision "shell" { script "setup.sh"; timeout 90 }
      provision "file" { source "site.conf"; destination "/tmp/site.conf" }
    }
    vm "db" { image "disk.qcow2"; network "tap" bridge="br1"; cloud-init; ssh; ready { http "/" } }
    vm "worker" count=2 { image "disk.qcow2"; cloud-init; ssh; provision "shell" { inline "hostname"; run "each" } }
    vm "bare" { image-preset "debian-12"; network "none"; ready { log "up" } }
    vm "one" { image "disk.qcow2"; network "user" { lan "back" }; cloud-init; ssh }
    vm "two" { image "disk.qcow2"; network "user" { lan "back" address="10.77.0.9" }; cloud-init; ssh }`);
  expect(file.diagnostics).toEqual([]);
  const withoutFile = (spec: object) => ({ ...spec, project: null });
  expect(specs.map(withoutFile)).toEqual(file.specs.map(withoutFile));
});

test.each<[place: string, vm: object, kdl: string]>([
  ['vms.web.memory: "4X"', { memory: '4X' }, 'memory "4X"'],
  ['vms.web.vcpus: "two"', { vcpus: 'two' }, 'vcpus "two"'],
  ['vms.web.vcpus: 1.5', { vcpus: 1.5 }, 'vcpus 1.5'],
  ['vms.web.memroy: 512', { memroy: 512 }, 'memroy 512'],
  ['vms.web.firmware: "efi"', { firmware: 'efi' }, 'firmware "efi"'],
  ['vms.web.network: "usr"', { network: 'usr' }, 'network "usr"'],
  [
    'vms.web.network.forwards[0]: 0, 99999',
    { network: { kind: 'user', forwards: [99_999] } },
    'network "user" { forward 0 99999 }',
  ],
  [
    'vms.web.network.lan.address: "10.78.0.1"',
    { network: { kind: 'user', lan: { name: 'x', address: '10.78.0.1' } } },
    'ssh; network "user" { lan "x" address="10.78.0.1" }',
  ],
  ['vms.web.network.lan: #true', { network: { kind: 'user', lan: true } }, 'network "user" { lan #true }'],
  ['vms.web.ssh.user: "A"', { ssh: { user: 'A' } }, 'ssh { user "A" }'],
  ['vms.web.ssh.usr: "a"', { ssh: { usr: 'a' } }, 'ssh { usr "a" }'],
  ['vms.web.dependsOn: "wbe"', { dependsOn: 'wbe' }, 'depends-on "wbe"'],
  ['vms.web.provision[0]', { provision: [{}] }, 'ssh; provision "shell" {}'],
  [
    'vms.web.provision[0].run: "never"',
    { provision: [{ inline: 'true', run: 'never' }] },
    'ssh; provision "shell" { inline "true"; run "never" }',
  ],
  [
    'vms.web.provision[0].env.A: 1',
    { provision: [{ inline: 'true', env: { A: 1 } }] },
    'ssh; provision "shell" { inline "true"; env A=1 }',
  ],
  ['vms.web.ready', { ready: {} }, 'ready {}'],
  ['vms.web.ready: 80', { ready: 80 }, 'ready 80'],
  ['vms.web.ready.port[1]: 0', { ready: { port: [80, 0] } }, 'ssh; ready { port 80; port 0 }'],
  ['vms.web.ready.http.prot: 80', { ready: { http: { prot: 80 } } }, 'ssh; ready { http "/" prot=80 }'],
  ['vms.web.ready.log: 7', { ready: { log: 7 } }, 'ready { log 7 }'],
  ['vms.web.ready.cloudInit: "yes"', { ready: { cloudInit: 'yes' } }, 'ssh; ready { cloud-init "yes" }'],
  ['vms.web.ready.units: "a"', { ready: { units: 'a' } }, 'ssh; ready { units "a" }'],
  ['vms.web.count: 0', { count: 0 }, ''],
  ['vms.web.checksum: "md5:1"', { checksum: 'md5:1' }, 'checksum "md5:1"'],
])('the mistake %s has the message of a VMFile, and its own place', (place, vm, kdl) => {
  const told = read({ web: { image: 'disk.qcow2', ...vm } });
  const count = 'count' in vm ? ` count=${String(vm.count)}` : '';
  const file = readFile(`vm "web"${count} { image "disk.qcow2"; ${kdl} }`);
  const words = ({ message, hint, code }: { message: string; hint: string | null; code: string }) => ({
    message,
    hint,
    code,
  });
  expect(file.diagnostics.length).toBeGreaterThan(0);
  expect(told.diagnostics.map(words)).toEqual(file.diagnostics.map(words));
  const lines = told.source.text.split('\n');
  expect(told.lines.map(({ line }) => lines[line - 1])).toContain(place);
});

test('what is no VM at all is told as well', () => {
  for (const vms of [{ web: null }, { web: 'disk.qcow2' }, { web: [] }, { 'a b': { image: 'disk.qcow2' } }, {}]) {
    expect(read(vms).diagnostics.length).toBeGreaterThan(0);
  }
});
