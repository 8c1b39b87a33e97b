// Calls the service from Node.js with one of two clients, and prints a line of JSON for each call.
//
//   node caller.mjs grpc-js|connect-node ADDRESS PROTO_FOLDER DESCRIPTORS OPTIONS
//
// DESCRIPTORS is a file with a FileDescriptorSet, for connect-node; OPTIONS is JSON:
//   method          name in ContactService                     (GetProfilePicture)
//   chat_id         contact to ask for
//   token           bearer token, or null
//   deadline_ms     of each call
//   calls           how many, and how many at a time
//   at_a_time
//   service_config  text for grpc-js, or null; connect-node knows none

import { readFileSync } from "node:fs";

import { createFileRegistry, create, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { ConnectError } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const SERVICE = "hypersender.contact.v1.ContactService";
const METHOD = "GetProfilePicture";
const OK = 0;

const [client, address, protos, descriptors, text] = process.argv.slice(2);
const options = JSON.parse(text);

function grpcJs() {
  const { requestSerialize, responseDeserialize } = loadSync("hypersender/contact/v1/contact_service.proto", {
    includeDirs: [protos],
    keepCase: true,
  })[SERVICE][METHOD];
  const settings = options.service_config ? { "grpc.service_config": options.service_config } : {};
  const channel = new grpc.Client(address, grpc.credentials.createInsecure(), settings);
  const path = `/${SERVICE}/${options.method}`;
  const call = () =>
    new Promise((resolve) => {
      const metadata = new grpc.Metadata();
      if (options.token) metadata.set("authorization", `Bearer ${options.token}`);
      const deadline = { deadline: Date.now() + options.deadline_ms };
      const request = { chat_id: options.chat_id };
      channel.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, metadata, deadline, (error) => {
        const told = error?.metadata;
        resolve({
          code: error ? error.code : OK,
          message: error ? error.details : "",
          status: told?.get("grpc-status-details-bin")[0]?.toString("base64"),
          pushback: told?.get("grpc-retry-pushback-ms")[0],
        });
      });
    });
  return { call, close: () => channel.close() };
}

function connectNode() {
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptors)));
  const known = registry.getService(SERVICE).methods.find((method) => method.name === METHOD);
  const method = { ...known, name: options.method };
  const transport = createGrpcTransport({ baseUrl: `http://${address}` });
  const headers = options.token ? { authorization: `Bearer ${options.token}` } : {};
  const call = async () => {
    try {
      const request = create(known.input, { chatId: options.chat_id });
      await transport.unary(method, undefined, options.deadline_ms, headers, request);
      return { code: OK, message: "" };
    } catch (failure) {
      const error = ConnectError.from(failure);
      const details = error.details.map(({ type, value }) => [type, Buffer.from(value).toString("base64")]);
      const pushback = error.metadata.get("grpc-retry-pushback-ms");
      return { code: error.code, message: error.rawMessage, details, pushback };
    }
  };
  return { call, close: () => {} };
}

const { call, close } = { "grpc-js": grpcJs, "connect-node": connectNode }[client]();
let left = options.calls;
async function caller() {
  while (left-- > 0) {
    const begin = performance.now();
    const answer = await call();
    console.log(JSON.stringify({ ...answer, seconds: (performance.now() - begin) / 1000 }));
  }
}
await Promise.all(Array.from({ length: options.at_a_time }, caller));
close();
// connect-node keeps its connection open for the next call, which would keep the process alive.
process.exit();
