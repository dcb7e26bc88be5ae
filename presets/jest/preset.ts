/** `preset: 'vmctl/jest'`: Jest looks for `jest-preset` below that name. */
import { fileURLToPath } from 'node:url';

const neighbour = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

const preset: { readonly globalSetup: string; readonly globalTeardown: string; readonly testEnvironment: string } = {
  globalSetup: neighbour('./setup.js'),
  globalTeardown: neighbour('./teardown.js'),
  testEnvironment: neighbour('./environment.js'),
};

export default preset;
