/** The release file, installed in an empty project as the README says, with the program of the README. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { test } from "node:test";

import { directory, PATIENCE, serve } from "./harness.js";

const [, program = ""] = /```js\n(import .*?)```/s.exec(readFileSync("README.md", "utf8")) ?? [];

test("the program of the README runs and compiles in an empty project", async (t) => {
  const { address } = await serve(t);
  const project = directory(t);
  const run = (...args: string[]) =>
    execFileSync(process.execPath, args, {
      cwd: project,
      encoding: "utf8",
      timeout: 4 * PATIENCE,
      stdio: ["ignore", "pipe", "inherit"],
    });
  const { NPM_CLI = "", PACKAGE = "" } = process.env;
  writeFileSync(join(project, "package.json"), '{ "private": true, "type": "module" }');
  run(
    NPM_CLI,
    "install",
    "--prefer-offline",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--silent",
    resolve(PACKAGE),
  );
  assert.ok(!readdirSync(join(project, "node_modules")).includes("typescript"));

  const source = program.replace("localhost:50051", address);
  assert.notEqual(source, program);
  writeFileSync(join(project, "main.js"), source);
  assert.match(run("main.js"), /^http\S+\n$/);
  writeFileSync(join(project, "main.js"), source.replace("15551230001", "15551230006"));
  assert.equal(run("main.js"), "not on WhatsApp\n");

  writeFileSync(join(project, "main.ts"), source);
  const tsc = resolve("node_modules/typescript/bin/tsc");
  assert.equal(
    run(
      tsc,
      "--strict",
      "--module",
      "nodenext",
      "--target",
      "es2022",
      "--types",
      "node",
      "--noEmit",
      "main.ts",
    ),
    "",
  );
});
