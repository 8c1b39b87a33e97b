// Writes the parts of src/gen that no plugin of buf writes. `make generate` runs it from the root of the
// repository.

import { readFileSync, writeFileSync } from "node:fs";

/** Writes a file of src/gen that is made from `source`. */
function write(name, source, text) {
  const header = `// Written by \`make generate\` from ${source}.\n\n`;
  writeFileSync(`clients/typescript/src/gen/${name}.ts`, header + text);
}

// Node.js 20 imports no JSON without a warning.
const config = JSON.stringify(JSON.parse(readFileSync("clients/service_config.json", "utf8")));
write(
  "service_config",
  "clients/service_config.json",
  `/** The service config of the channel, in JSON. */
export const serviceConfig = ${JSON.stringify(config)};
`,
);

// The rows of the table of reasons: | code | reason | meaning | what to do | retry |. A reason may have
// several.
const reasons = new Map();
const [, table] = readFileSync("docs/errors.md", "utf8").split("## Reasons\n");
for (const [, code, reason, meaning] of table.matchAll(/^\| ([A-Z_]+) \| ([A-Z_]+) \| ([^|]+) \|/gm)) {
  reasons.set(reason, [...(reasons.get(reason) ?? []), `${code}: ${meaning}.`]);
}
const members = [...reasons].map(
  ([reason, lines]) =>
    `  /**\n${lines.map((line) => `   * ${line}\n`).join("")}   */\n  ${reason}: "${reason}",\n`,
);
write(
  "reason",
  "docs/errors.md",
  `/** The reasons of this version of the service. A newer service may send others. */
export const Reason = {
${members.join("")}} as const;

/** A reason of this version, or the text of a newer one. */
export type Reason = (typeof Reason)[keyof typeof Reason] | (string & {});
`,
);
