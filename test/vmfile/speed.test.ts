import { describe, expect, it } from 'vitest';
import { renderDiagnostics } from '../../src/vmfile/diagnostic.js';
import { parseVmFile } from '../../src/vmfile/parse.js';
import { processorTime } from '../support/processor-time.js';
import { sourceOf } from './report.js';

const many = Array.from(
  { length: 1000 },
  (_, index) => `vm "web-${index}" {
    image-url "https://cloud.example.org/debian-12.qcow2"
    vcpus 2
    memory 2048
    disk 20
    network "user" { forward 0 80 }
    cloud-init { hostname "web" }
    ssh { user "debian" }
    depends-on "web-${index === 999 ? 998 : index + 1}"
    provision "shell" { inline "sudo apt-get install -y nginx" }
}
`,
).join('\n');

const mistakes = `vm "a" { image "disk.qcow2"; ${'nothing; '.repeat(1000)}}`;

describe('a VMFile with 1,000 VMs', () => {
  it('is read in about a second, the first time', () => {
    // Measured at 0.3 to 0.7 s; the limit leaves room for slow machines and coverage.
    expect(processorTime(() => void parseVmFile(sourceOf(many)))).toBeLessThan(3000);
    expect(parseVmFile(sourceOf(many)).project.vms).toHaveLength(1000);
  });

  it('is read as fast when one of them is broken', () => {
    const broken = `${many}vm "x" { memory 4G }\n`;
    expect(processorTime(() => void parseVmFile(sourceOf(broken)))).toBeLessThan(5000);
  });
});

it('a thousand mistakes in one line are shown in about a second', () => {
  const source = sourceOf(mistakes);
  const { diagnostics } = parseVmFile(source);
  expect(diagnostics).toHaveLength(1000);
  // Measured at 0.3 s.
  expect(processorTime(() => void renderDiagnostics(source, diagnostics, { color: false }))).toBeLessThan(3000);
});
