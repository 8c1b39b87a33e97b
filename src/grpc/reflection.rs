//! Reflection: what grpcurl and its like read of the contract.

use tonic_reflection::server::{
    Builder,
    v1::{ServerReflection, ServerReflectionServer},
    v1alpha,
};

use super::DESCRIPTORS;

const WHOLE: &str = "the descriptor sets are made at build time, with all that they import";

/// The reflection service in both of its versions, since clients ask for either. It knows the contract, health, and the
/// types in error details, so that tools can show those.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "it cannot, see WHOLE")]
pub fn reflection() -> (
    ServerReflectionServer<impl ServerReflection>,
    v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>,
) {
    let builder = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    (builder().build_v1().expect(WHOLE), builder().build_v1alpha().expect(WHOLE))
}
