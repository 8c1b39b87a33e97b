"""The hand-written part of the client: `hypersender_grpc_client.pictures`."""
