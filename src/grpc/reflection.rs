//! Reflection: the descriptors of the contract, for grpcurl and similar tools.
//!
//! tonic-reflection provides the messages and the servers of both versions. The service is hand-written,
//! because that of tonic-reflection ends the stream at the first unknown name. The protocol requires an error
//! response there, and clients send further requests after it.

mod known;

use std::sync::Arc;

use futures_util::{StreamExt, stream::BoxStream};
use tonic::{Request, Response, Status, Streaming};
use tonic_reflection::server::{
    v1::{ServerReflection, ServerReflectionServer},
    v1alpha,
};

use self::known::Known;
use super::{
    status::{NAME_UNKNOWN, NOTHING_ASKED},
    unary::MESSAGE_BYTES_MAX,
};

/// The reflection service in both of its versions, because clients use either. It knows the contract, health,
/// itself, and the types in error details.
#[must_use]
pub fn reflection() -> (
    ServerReflectionServer<impl ServerReflection>,
    v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>,
) {
    let api = Arc::new(Api(Arc::new(Known::all())));
    (
        ServerReflectionServer::from_arc(api.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
        v1alpha::ServerReflectionServer::from_arc(api).max_decoding_message_size(MESSAGE_BYTES_MAX),
    )
}

struct Api(Arc<Known>);

/// Serves one version. The versions differ only in the types of their messages.
macro_rules! serve {
    ($version:ident) => {
        #[tonic::async_trait]
        impl tonic_reflection::server::$version::ServerReflection for Api {
            type ServerReflectionInfoStream =
                BoxStream<'static, Result<tonic_reflection::pb::$version::ServerReflectionResponse, Status>>;

            async fn server_reflection_info(
                &self,
                requests: Request<Streaming<tonic_reflection::pb::$version::ServerReflectionRequest>>,
            ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
                use tonic_reflection::pb::$version::{
                    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
                    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
                    server_reflection_request::MessageRequest as Asked,
                    server_reflection_response::MessageResponse as Told,
                };
                let file = |bytes| {
                    let file_descriptor_proto = vec![bytes];
                    Told::FileDescriptorResponse(FileDescriptorResponse { file_descriptor_proto })
                };
                let known = self.0.clone();
                let tell = move |asked: &Asked| match asked {
                    Asked::FileByFilename(name) => known.file(name).map(file),
                    Asked::FileContainingSymbol(symbol) => known.file_of_symbol(symbol).map(file),
                    Asked::FileContainingExtension(extension) => {
                        let (extended, number) = (&extension.containing_type, extension.extension_number);
                        known.file_of_extension(extended, number).map(file)
                    }
                    Asked::AllExtensionNumbersOfType(extended) => {
                        known.extensions(extended).map(|extension_number| {
                            let base_type_name = extended.clone();
                            Told::AllExtensionNumbersResponse(ExtensionNumberResponse {
                                base_type_name,
                                extension_number,
                            })
                        })
                    }
                    Asked::ListServices(_) => {
                        let service = known.services().map(|name| ServiceResponse { name }).collect();
                        Some(Told::ListServicesResponse(ListServiceResponse { service }))
                    }
                };
                let error = |error_code, text: &str| {
                    Told::ErrorResponse(ErrorResponse { error_code, error_message: text.to_owned() })
                };
                let answer = move |request: ServerReflectionRequest| {
                    let told = match &request.message_request {
                        None => error(NOTHING_ASKED, "the request is of no kind that this server knows"),
                        Some(asked) => tell(asked).unwrap_or_else(|| error(NAME_UNKNOWN, "not found")),
                    };
                    ServerReflectionResponse {
                        valid_host: request.host.clone(),
                        original_request: Some(request),
                        message_response: Some(told),
                    }
                };
                // A request that cannot be decoded is the last one of its stream.
                let answers = requests.into_inner().map(move |request| request.map(&answer));
                Ok(Response::new(answers.boxed()))
            }
        }
    };
}

serve!(v1);
serve!(v1alpha);
