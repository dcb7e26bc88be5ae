import { defineConfig } from 'vitest/config';
import { vmctl } from 'vmctl/vitest';

export default defineConfig({
  plugins: [vmctl()],
  test: { testTimeout: 60_000 },
});
