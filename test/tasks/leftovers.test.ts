import { describe, expect, test } from 'vitest';
import type { CacheRest } from '../../src/image/cache-rests.js';
import { type DirectoryFacts, judgeCacheRest, judgeDirectory } from '../../tasks/leftovers.js';

const directory = (more: Partial<DirectoryFacts>): DirectoryFacts => ({
  path: '/state/vms/web',
  vm: 'web',
  role: 'vm',
  recorded: false,
  readable: false,
  hasDisk: false,
  pid: null,
  busy: false,
  bytes: 4096,
  ...more,
});

describe('a directory below vms/', () => {
  test.each<[string, Partial<DirectoryFacts>, string]>([
    ['under construction', { role: 'staging' }, 'vmctl was killed while it made this VM'],
    ['half removed', { role: 'removing', hasDisk: true }, 'vmctl was killed while it removed this VM'],
    ['with nothing of a VM', {}, 'there is no VM in it: no disk, no process, and the list of VMs does not have it'],
  ])('%s is garbage', (_what, more, why) => {
    const facts = directory(more);
    expect(judgeDirectory(facts)).toEqual({
      garbage: { kind: 'VM rest', vm: 'web', path: '/state/vms/web', bytes: 4096, why },
    });
  });

  test.each<[string, Partial<DirectoryFacts>]>([
    ['of a VM', { readable: true, recorded: true, hasDisk: true }],
    ['of a VM that runs', { readable: true, recorded: true, hasDisk: true, pid: 7 }],
    ['of a VM that the registry does not have', { readable: true }],
    ['that somebody makes', { role: 'staging', busy: true }],
    ['that somebody removes', { role: 'removing', busy: true }],
    ['without a VM that somebody works with', { busy: true }],
  ])('%s stays without a word', (_what, more) => {
    expect(judgeDirectory(directory(more))).toBeNull();
  });

  test.each<[string, Partial<DirectoryFacts>, string, string]>([
    ['that is damaged and has a disk', { hasDisk: true }, '', 'vmctl destroy web'],
    ['that is damaged and known', { recorded: true }, '', 'vmctl destroy web'],
    ['that is damaged and runs', { pid: 7 }, ', and its QEMU (pid 7) still runs', 'vmctl destroy web'],
  ])('%s stays, with the command that ends it', (_what, more, extra, next) => {
    const what = `VM "web" is damaged: /state/vms/web/vm.json is missing or unreadable${extra}`;
    expect(judgeDirectory(directory(more))).toEqual({ trouble: { what, next } });
  });

  test.each(['staging', 'removing'] as const)('in which a QEMU still runs stays, also when it is %s', (role) => {
    expect(judgeDirectory(directory({ role, pid: 7 }))).toEqual({
      trouble: {
        what: 'a QEMU (pid 7) still runs in /state/vms/web, the rest of VM "web"',
        next: 'kill 7',
      },
    });
  });
});

describe('a rest in the image cache', () => {
  const rest = (kind: CacheRest['kind']): CacheRest => ({
    kind,
    path: '/state/images/a',
    bytes: 10,
    key: null,
    modifiedAt: 1000,
  });
  const nobody = { users: [], unreadable: [], partialsBefore: 1000 };

  test.each<CacheRest['kind']>(['partial download', 'incomplete image', 'temporary file', 'broken name'])(
    'that is a %s is garbage',
    (kind) => {
      expect(judgeCacheRest(rest(kind), nobody)).toMatchObject({ garbage: { path: '/state/images/a', bytes: 10 } });
    },
  );

  test('that is a partial download stays while somebody may go on with it', () => {
    expect(judgeCacheRest(rest('partial download'), { ...nobody, partialsBefore: 999 })).toBeNull();
  });

  test('that VMs stand on stays, with the command that ends them', () => {
    expect(judgeCacheRest(rest('incomplete image'), { ...nobody, users: ['db', 'web'] })).toEqual({
      trouble: {
        what: 'the image /state/images/a is not complete, and db, web stand on it',
        next: 'vmctl destroy db web',
      },
    });
  });

  test('that may be under a disk that does not tell stays', () => {
    expect(judgeCacheRest(rest('incomplete image'), { ...nobody, unreadable: ['/x'] })).toBeNull();
  });
});
