/**
 * The generated messages of `hypersender.contact.v1`, the error details of `google.rpc`, and the service as a
 * definition and a client of grpc-js, for programs that need more than `createContactClient` gives.
 *
 * @module
 */

import * as protobuf from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";

import { ContactService } from "./gen/hypersender/contact/v1/contact_service_pb.js";

export * from "./gen/google/rpc/error_details_pb.js";
export * from "./gen/google/rpc/status_pb.js";
export * from "./gen/hypersender/contact/v1/contact_service_pb.js";

type Methods = typeof ContactService.method;
type Input<Name extends keyof Methods> = protobuf.MessageInitShape<Methods[Name]["input"]>;
type Output<Name extends keyof Methods> = protobuf.MessageShape<Methods[Name]["output"]>;

/** The service for grpc-js: for `grpc.Server.addService` or `grpc.makeClientConstructor`. */
export const ContactServiceDefinition = Object.fromEntries(
  ContactService.methods.map(({ name, localName, methodKind, input, output }) => [
    localName,
    {
      path: `/${ContactService.typeName}/${name}`,
      originalName: name,
      requestStream: false,
      responseStream: methodKind === "server_streaming",
      requestSerialize: serialize(input),
      requestDeserialize: (bytes: Buffer) => protobuf.fromBinary(input, bytes),
      responseSerialize: serialize(output),
      responseDeserialize: (bytes: Buffer) => protobuf.fromBinary(output, bytes),
    },
  ]),
) as unknown as { [Name in keyof Methods]: grpc.MethodDefinition<Input<Name>, Output<Name>> };

function serialize(schema: protobuf.DescMessage) {
  return (message: Record<string, unknown>) =>
    Buffer.from(protobuf.toBinary(schema, protobuf.create(schema, message)));
}

/** A method with one answer. Fields that are left out of the request have their default. */
export type UnaryMethod<Name extends keyof Methods> = (
  request: Input<Name>,
  metadata: grpc.Metadata,
  options: grpc.CallOptions,
  done: grpc.requestCallback<Output<Name>>,
) => grpc.ClientUnaryCall;

/** The methods of the service as grpc-js calls them: without resuming, typed errors and default deadlines. */
export interface ContactServiceClient extends grpc.Client {
  /** Looks up one contact. */
  getProfilePicture: UnaryMethod<"getProfilePicture">;
  /** Looks up 1 to 100 contacts in one call. */
  batchGetProfilePictures: UnaryMethod<"batchGetProfilePictures">;
  /** Looks up 1 to 10,000 contacts, and sends each result as soon as it is known. */
  streamProfilePictures: (
    request: Input<"streamProfilePictures">,
    metadata?: grpc.Metadata,
    options?: grpc.CallOptions,
  ) => grpc.ClientReadableStream<Output<"streamProfilePictures">>;
}

type Constructor = new (...args: ConstructorParameters<typeof grpc.Client>) => ContactServiceClient;
const definition = ContactServiceDefinition as unknown as grpc.ServiceDefinition;
const made: unknown = grpc.makeClientConstructor(definition, ContactService.typeName);
/** Makes a client of grpc-js. Its channel connects at the first call. */
export const ContactServiceClient = made as Constructor;
