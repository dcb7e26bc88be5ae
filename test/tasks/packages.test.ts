import { expect, test } from 'vitest';
import { familyOf } from '../../tasks/packages.js';

test.each([
  ['Debian', 'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\n', 'debian'],
  ['Ubuntu', 'NAME="Ubuntu"\nVERSION_ID="24.04"\nID=ubuntu\nID_LIKE=debian\n', 'debian'],
  ['Linux Mint', 'ID=linuxmint\nID_LIKE="ubuntu debian"\n', 'debian'],
  ['Fedora', "ID='fedora'\nVARIANT_ID=workstation\n", 'fedora'],
  ['Arch', 'ID=arch\n', 'arch'],
  ['Manjaro', 'ID=manjaro\nID_LIKE=arch\n', 'arch'],
  ['Alpine', 'ID=alpine\n', 'alpine'],
  ['openSUSE', 'ID="opensuse-leap"\nID_LIKE="suse opensuse"\n', 'suse'],
  ['a clone of Red Hat, which has no plain QEMU', 'ID="rocky"\nID_LIKE="rhel centos fedora"\n', 'unknown'],
  ['something else', 'ID=nixos\n', 'unknown'],
])('knows %s', (_name, osRelease, family) => {
  expect(familyOf('linux', osRelease)).toBe(family);
});

test('knows macOS by its platform, and says where it knows nothing', () => {
  expect(familyOf('darwin', null)).toBe('macos');
  expect(familyOf('linux', null)).toBe('unknown');
});
