//! [`Known`]: which file describes each name of the contract.

use std::collections::HashMap;

use prost_reflect::{DescriptorPool, EnumDescriptor, FileDescriptor, MessageDescriptor};
use tonic_reflection::pb as reflection;

use crate::grpc::DESCRIPTORS;

/// The descriptors, by every key that a reflection request can contain.
#[derive(Debug)]
pub struct Known {
    /// One pool for each descriptor set. Two sets may contain the same file under different names, which one
    /// pool refuses.
    pools: Vec<DescriptorPool>,
    /// The file of each message, field, oneof, enum, value, service, method and extension, by its full name.
    symbols: HashMap<String, FileDescriptor>,
}

impl Known {
    /// All services that are served, and the types in error details.
    pub fn all() -> Self {
        let sets = [
            DESCRIPTORS,
            tonic_types::pb::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            reflection::v1::FILE_DESCRIPTOR_SET,
            reflection::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        // The pool decodes the bytes itself, because prost would drop the options that it does not know.
        let pools = sets.map(DescriptorPool::decode).into_iter();
        let pools: Result<_, _> = pools.collect();
        Self::of(pools.expect("the descriptor sets are made at build time, with all that they import"))
    }

    fn of(pools: Vec<DescriptorPool>) -> Self {
        let mut symbols = HashMap::new();
        // If several sets contain a name, the first set counts. It is added last, so that it replaces the
        // others.
        for pool in pools.iter().rev() {
            add_pool(&mut symbols, pool);
        }
        Self { pools, symbols }
    }

    /// The full names of all services.
    pub fn services(&self) -> impl Iterator<Item = String> {
        let services = self.pools.iter().flat_map(DescriptorPool::services);
        services.map(|service| service.full_name().to_owned())
    }

    /// A file by its name, as bytes.
    pub fn file(&self, name: &str) -> Option<Vec<u8>> {
        let file = self.pools.iter().find_map(|pool| pool.get_file_by_name(name));
        file.map(|file| file.encode_to_vec())
    }

    /// The file that describes `symbol`, as bytes.
    pub fn file_of_symbol(&self, symbol: &str) -> Option<Vec<u8>> {
        self.symbols.get(symbol).map(FileDescriptor::encode_to_vec)
    }

    /// The file that extends the message `extended` with this number, as bytes.
    pub fn file_of_extension(&self, extended: &str, number: i32) -> Option<Vec<u8>> {
        let extended = self.message(extended)?;
        let extension = extended.get_extension(number.try_into().ok()?)?;
        Some(extension.parent_file().encode_to_vec())
    }

    /// The numbers by which the message `extended` is extended, in ascending order.
    pub fn extensions(&self, extended: &str) -> Option<Vec<i32>> {
        let extended = self.message(extended)?;
        let mut numbers: Vec<_> =
            extended.extensions().map(|extension| extension.number().cast_signed()).collect();
        numbers.sort_unstable();
        Some(numbers)
    }

    fn message(&self, name: &str) -> Option<MessageDescriptor> {
        self.pools.iter().find_map(|pool| pool.get_message_by_name(name))
    }
}

fn add_pool(symbols: &mut HashMap<String, FileDescriptor>, pool: &DescriptorPool) {
    for message in pool.all_messages() {
        add_message(symbols, &message);
    }
    for of_values in pool.all_enums() {
        add_enum(symbols, &of_values);
    }
    for extension in pool.all_extensions() {
        symbols.insert(extension.full_name().to_owned(), extension.parent_file());
    }
    for service in pool.services() {
        for method in service.methods() {
            symbols.insert(method.full_name().to_owned(), service.parent_file());
        }
        symbols.insert(service.full_name().to_owned(), service.parent_file());
    }
}

fn add_message(symbols: &mut HashMap<String, FileDescriptor>, message: &MessageDescriptor) {
    for field in message.fields() {
        symbols.insert(field.full_name().to_owned(), message.parent_file());
    }
    for oneof in message.oneofs() {
        symbols.insert(oneof.full_name().to_owned(), message.parent_file());
    }
    symbols.insert(message.full_name().to_owned(), message.parent_file());
}

fn add_enum(symbols: &mut HashMap<String, FileDescriptor>, of_values: &EnumDescriptor) {
    for value in of_values.values() {
        // Protobuf puts the full name of an enum value beside its enum, not inside of it. Some clients ask
        // for the name inside of the enum, so both names are known.
        symbols.insert(format!("{}.{}", of_values.full_name(), value.name()), of_values.parent_file());
        symbols.insert(value.full_name().to_owned(), of_values.parent_file());
    }
    symbols.insert(of_values.full_name().to_owned(), of_values.parent_file());
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::{
        DescriptorProto, FieldDescriptorProto, FileDescriptorProto,
        descriptor_proto::ExtensionRange,
        field_descriptor_proto::{Label, Type},
    };

    use super::*;

    /// A file with a message that two others extend.
    fn extended() -> Known {
        let file = |name: &str| FileDescriptorProto {
            name: Some(format!("{name}.proto")),
            package: Some("test".to_owned()),
            ..Default::default()
        };
        let range = ExtensionRange { start: Some(100), end: Some(200), ..Default::default() };
        let message = DescriptorProto {
            name: Some("Base".to_owned()),
            extension_range: vec![range],
            ..Default::default()
        };
        let base = FileDescriptorProto { message_type: vec![message], ..file("base") };
        let extending = |name: &str, number| FileDescriptorProto {
            dependency: vec!["base.proto".to_owned()],
            extension: vec![FieldDescriptorProto {
                name: Some(name.to_owned()),
                extendee: Some(".test.Base".to_owned()),
                number: Some(number),
                label: Some(Label::Optional.into()),
                r#type: Some(Type::String.into()),
                ..Default::default()
            }],
            ..file(name)
        };
        let mut pool = DescriptorPool::new();
        pool.add_file_descriptor_protos([base, extending("second", 120), extending("first", 110)]).unwrap();
        Known::of(vec![pool])
    }

    fn name(file: Option<Vec<u8>>) -> Option<String> {
        file.map(|bytes| FileDescriptorProto::decode(&*bytes).unwrap().name().to_owned())
    }

    #[test]
    fn extensions_are_found_by_type_and_number() {
        let known = extended();
        assert_eq!(known.extensions("test.Base"), Some(vec![110, 120]));
        assert_eq!(known.extensions("test.None"), None);
        for (extended, number, file) in [
            ("test.Base", 110, Some("first.proto")),
            ("test.Base", 120, Some("second.proto")),
            ("test.Base", 130, None),
            ("test.Base", -1, None),
            ("test.None", 110, None),
        ] {
            assert_eq!(name(known.file_of_extension(extended, number)).as_deref(), file, "{number}");
        }
        assert_eq!(name(known.file_of_symbol("test.second")).as_deref(), Some("second.proto"));
    }

    #[test]
    fn whatever_has_a_name_is_found_by_it() {
        const CONTRACT: Option<&str> = Some("hypersender/contact/v1/contact_service.proto");
        let known = Known::all();
        for (symbol, file) in [
            ("hypersender.contact.v1.ContactService", CONTRACT),
            ("hypersender.contact.v1.ContactService.GetProfilePicture", CONTRACT),
            ("hypersender.contact.v1.ProfilePicture", CONTRACT),
            ("hypersender.contact.v1.ProfilePicture.url", CONTRACT),
            ("hypersender.contact.v1.CacheStatus", CONTRACT),
            ("hypersender.contact.v1.CACHE_STATUS_HIT", CONTRACT),
            ("hypersender.contact.v1.CacheStatus.CACHE_STATUS_HIT", CONTRACT),
            ("google.protobuf.Duration", Some("google/protobuf/duration.proto")),
            ("google.rpc.RetryInfo", Some("error_details.proto")),
            ("hypersender.contact.v1", None),
            ("hypersender.contact.v1.ProfilePicture.", None),
            (".hypersender.contact.v1.ProfilePicture", None),
            ("", None),
        ] {
            assert_eq!(name(known.file_of_symbol(symbol)).as_deref(), file, "{symbol}");
        }
        assert_eq!(name(known.file("status.proto")).as_deref(), Some("status.proto"));
        assert_eq!(known.file("google/rpc/nothing.proto"), None);
    }
}
