/** Milliseconds of processor time that some work takes, which other programs on the machine do not lengthen. */
export function processorTime(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}
