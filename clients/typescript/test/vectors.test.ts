/** The rows of clients/vectors, which every package tests, and what else needs no server. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { fromBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { StatusSchema } from "@hypersender-grpc/contact/v1";

import { VERSION } from "../dist/channel.js";
import { type ContactError, explain, fromStatus } from "../dist/errors.js";
import { pause } from "../dist/stream.js";
import { parseTarget } from "../dist/target.js";
import { repository } from "./harness.js";

function rows(name: string) {
  return JSON.parse(readFileSync(`${repository}/clients/vectors/${name}.json`, "utf8"))[name];
}

test("targets", async (t) => {
  for (const { target, dials, loopback, refused } of rows("targets")) {
    await t.test(JSON.stringify(target), () => {
      if (refused === undefined) return assert.deepEqual(parseTarget(target), { dials, loopback });
      assert.throws(
        () => parseTarget(target),
        (error) =>
          error instanceof TypeError && error.message.includes(refused) && !error.message.includes("secret"),
      );
    });
  }
});

/** The error that grpc-js makes of a status in the trailers. */
function received(status: string, code: string, pushback: string | null): ContactError {
  const metadata = new grpc.Metadata();
  const bytes = Buffer.from(status, "base64");
  metadata.set("grpc-status-details-bin", bytes);
  if (pushback !== null) metadata.set("grpc-retry-pushback-ms", pushback);
  const error = new Error("a message") as grpc.ServiceError;
  return explain(
    Object.assign(error, { code: grpc.status[code as "OK"], details: "a message", metadata }),
    false,
  );
}

test("errors", async (t) => {
  for (const { name, status, code, reason, field, retryAfterMs, retryable } of rows("errors")) {
    await t.test(name, () => {
      const bytes = Buffer.from(status, "base64");
      for (const error of [fromStatus(fromBinary(StatusSchema, bytes)), received(status, code, null)]) {
        assert.deepEqual(
          [error.codeName, error.reason ?? "", error.field ?? "", error.retryAfterMs ?? 0, error.retryable],
          [code, reason, field, retryAfterMs, retryable],
        );
        assert.equal(error.code, grpc.status[code as "OK"]);
        assert.equal(error.details, "a message");
        assert.equal(error.message, `${code}${reason && ` ${reason}`}: a message`);
      }
    });
  }
});

test("waits", async (t) => {
  for (const { name, status, code, pushback, failures, again, atLeastMs, atMostMs } of rows("waits")) {
    await t.test(name, () => {
      for (let time = 0; time < 100; time += 1) {
        const wait = pause(received(status, code, pushback), failures);
        assert.equal(wait !== undefined, again);
        if (wait !== undefined) assert.ok(wait >= atLeastMs && wait <= atMostMs, String(wait));
      }
    });
  }
});

test("the version is that of package.json", () => {
  assert.equal(VERSION, JSON.parse(readFileSync("package.json", "utf8")).version);
});
