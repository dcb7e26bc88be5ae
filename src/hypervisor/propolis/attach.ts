/** How the serial console of a VM is attached to: by way of the server that it has at that moment. */
import type { Duplex } from 'node:stream';
import { VmctlError } from '../../errors.js';
import type { VmHandle } from '../../model/vm.js';
import type { ConsoleEndpoint } from '../hypervisor.js';
import { findServer } from './server.js';

export function consoleOf(handle: VmHandle): ConsoleEndpoint {
  return { kind: 'stream', connect: (signal) => connect(handle, signal) };
}

async function connect(handle: VmHandle, signal: AbortSignal): Promise<Duplex> {
  const server = await findServer(handle);
  if (server === null) {
    throw new VmctlError('VM_STATE', `VM "${handle.name}" is stopped`, { fields: { vm: handle.name } });
  }
  // Loaded when it is needed: most commands open no WebSocket.
  const { openConsole } = await import('./console.js');
  return openConsole({ vm: handle.name, address: server.address, signal });
}
