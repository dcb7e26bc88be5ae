/** What machines on QEMU can be asked for. */
import type { Capabilities } from '../hypervisor.js';

const SUPPORTED = { supported: true } as const;

export function qemuCapabilities(platform: NodeJS.Platform): Capabilities {
  return {
    guestAccess: SUPPORTED,
    suspend: SUPPORTED,
    crash: SUPPORTED,
    reset: SUPPORTED,
    links: SUPPORTED,
    console: SUPPORTED,
    screenshot: SUPPORTED,
    memorySnapshots: SUPPORTED,
    networks: {
      user: SUPPORTED,
      none: SUPPORTED,
      tap:
        platform === 'linux'
          ? SUPPORTED
          : { supported: false, reason: 'network "tap" needs a bridge of Linux; use network "user"' },
      vnic: { supported: false, reason: 'network "vnic" needs illumos with Propolis; use network "user"' },
    },
  };
}
