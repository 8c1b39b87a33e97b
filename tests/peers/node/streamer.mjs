// Calls StreamProfilePictures once from Node.js with one of two clients. Prints a line of JSON for each
// message and one for the end, like ../stream.
//
//   node streamer.mjs grpc-js|connect-node ADDRESS PROTO_FOLDER DESCRIPTORS OPTIONS
//
// DESCRIPTORS is a file with a FileDescriptorSet, for connect-node; OPTIONS is JSON:
//   first           phone number of the first contact
//   contacts        how many, with consecutive numbers
//   leave_after     number of results after which the call is cancelled; 0: never
//   service_config  text for grpc-js, or null; connect-node knows none

import { readFileSync } from "node:fs";

import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const SERVICE = "hypersender.contact.v1.ContactService";
const OK = 0;

const [client, address, protos, descriptors, text] = process.argv.slice(2);
const options = JSON.parse(text);
const chatIds = Array.from({ length: options.contacts }, (_, number) => String(options.first + number));
let results = 0;

function print(line) {
  console.log(JSON.stringify(line));
}

// Prints a result, and returns whether it is time to leave.
function isLast(index) {
  print({ index });
  results += 1;
  return results === options.leave_after;
}

async function grpcJs() {
  const { requestSerialize, responseDeserialize, path } = loadSync("hypersender/contact/v1/contact_service.proto", {
    includeDirs: [protos],
    keepCase: true,
  })[SERVICE].StreamProfilePictures;
  const settings = options.service_config ? { "grpc.service_config": options.service_config } : {};
  const channel = new grpc.Client(address, grpc.credentials.createInsecure(), settings);
  const call = channel.makeServerStreamRequest(path, requestSerialize, responseDeserialize, { chat_ids: chatIds });
  call.on("data", ({ result, progress }) => {
    if (progress) print({ done: progress.done ?? 0 });
    else if (isLast(result.index ?? 0)) call.cancel();
  });
  // The status is there, too.
  call.on("error", () => {});
  const ended = new Promise((resolve) => call.on("end", resolve));
  const status = new Promise((resolve) => call.on("status", resolve));
  // The status may come before messages that were received before it.
  await ended;
  const { code, details, metadata } = await status;
  return { code, message: details, status: metadata.get("grpc-status-details-bin")[0]?.toString("base64") };
}

async function connectNode() {
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptors)));
  const service = registry.getService(SERVICE);
  const contacts = createClient(service, createGrpcTransport({ baseUrl: `http://${address}` }));
  const leaving = new AbortController();
  try {
    for await (const { event } of contacts.streamProfilePictures({ chatIds }, { signal: leaving.signal })) {
      if (event.case === "progress") print({ done: event.value.done });
      else if (isLast(event.value.index)) leaving.abort();
    }
    return { code: OK, message: "" };
  } catch (failure) {
    const error = ConnectError.from(failure);
    const details = error.details.map(({ type, value }) => [type, Buffer.from(value).toString("base64")]);
    return { code: error.code, message: error.rawMessage, details };
  }
}

print(await { "grpc-js": grpcJs, "connect-node": connectNode }[client]());
// connect-node keeps its connection open for the next call, which would keep the process alive.
process.exit();
