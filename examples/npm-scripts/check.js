// Any program finds the VMs by VMCTL_CONNECTION, which `vmctl run` sets, and so does every command of vmctl.
import { attach } from 'vmctl';

const { greeter } = await attach(process.env.VMCTL_CONNECTION);
const { stdout } = await greeter.exec('cat /tmp/greeting');
if (stdout !== 'hello from greeter\n') throw new Error(`greeter says ${JSON.stringify(stdout)}`);
console.log('the greeting is right');
