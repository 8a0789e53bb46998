/** The checkout that this program was built in: for development tools only, which read its sources and fixtures. */
import { fileURLToPath } from 'node:url';

/** Absolute path with a slash at its end, seen from dist/src/host. */
export const root = fileURLToPath(new URL('../../../', import.meta.url));
