// Writes src/gen/service_config.ts. `make generate` runs this program from the root of the repository.

import { readFileSync, writeFileSync } from "node:fs";

// Node.js 20 imports no JSON without a warning.
const config = JSON.stringify(JSON.parse(readFileSync("clients/service_config.json", "utf8")));
writeFileSync(
  "clients/typescript/src/gen/service_config.ts",
  `// Written by \`make generate\` from clients/service_config.json.

/** The service config of the channel, in JSON. */
export const serviceConfig = ${JSON.stringify(config)};
`,
);
