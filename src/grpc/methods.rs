//! [`methods`]: every method that is served, read from the descriptors, so that a new one cannot be
//! forgotten.

use prost::Message;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use tonic_reflection::pb as reflection;

use super::DESCRIPTORS;
use crate::telemetry::{Method, MethodKind};

/// The methods of the contract, of health and of both versions of reflection.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "it cannot: the descriptor sets are made at build time")]
pub fn methods() -> Vec<Method> {
    let sets = [
        DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        reflection::v1::FILE_DESCRIPTOR_SET,
        reflection::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let sets = sets.map(|set| FileDescriptorSet::decode(set).expect("it is made at build time"));
    let files = sets.into_iter().flat_map(|set| set.file);
    let services = files.flat_map(|file| {
        let package = file.package().to_owned();
        file.service.into_iter().map(move |service| (format!("{package}.{}", service.name()), service.method))
    });
    services
        .flat_map(|(service, methods)| methods.into_iter().map(move |method| read(&service, &method)))
        .collect()
}

fn read(service: &str, method: &MethodDescriptorProto) -> Method {
    let kind = match (method.client_streaming(), method.server_streaming()) {
        (false, false) => MethodKind::Unary,
        (true, false) => MethodKind::ClientStream,
        (false, true) => MethodKind::ServerStream,
        (true, true) => MethodKind::BidiStream,
    };
    Method { service: service.to_owned(), name: method.name().to_owned(), kind }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::{ContactMethod, service::SERVICE};

    #[test]
    fn what_is_served_is_in_the_contract() {
        let of_service = methods().into_iter().filter(|method| method.service == SERVICE);
        let mut contract: Vec<_> =
            of_service.map(|method| format!("/{}/{}", method.service, method.name)).collect();
        let mut served = ContactMethod::ALL.map(ContactMethod::path);
        contract.sort_unstable();
        served.sort_unstable();
        assert_eq!(contract, served, "each method of the contract has a path of its own");
        for method in ContactMethod::ALL {
            assert_eq!(ContactMethod::at(method.path()), Some(method));
        }
    }

    #[test]
    fn all_services_are_known() {
        let methods = methods();
        let method = |service: &str, name: &str, kind| Method {
            service: service.to_owned(),
            name: name.to_owned(),
            kind,
        };
        for expected in [
            method("hypersender.contact.v1.ContactService", "GetProfilePicture", MethodKind::Unary),
            method("grpc.health.v1.Health", "Check", MethodKind::Unary),
            method("grpc.health.v1.Health", "Watch", MethodKind::ServerStream),
            method("grpc.reflection.v1.ServerReflection", "ServerReflectionInfo", MethodKind::BidiStream),
            method(
                "grpc.reflection.v1alpha.ServerReflection",
                "ServerReflectionInfo",
                MethodKind::BidiStream,
            ),
        ] {
            assert!(methods.contains(&expected), "{expected:?} is not among {methods:?}");
        }
    }
}
