//! Turns the proto into Rust code and a descriptor set, both in `OUT_DIR`, without a `protoc` on the machine.
//!
//! protox compiles the proto, and `tonic-prost-build` (the prost half of tonic-build since tonic 0.14) writes
//! the code.

use std::{env, error::Error, fs, path::Path};

const PROTO_ROOT: &str = "proto";
const PROTO_FILE: &str = "proto/hypersender/contact/v1/contact_service.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO_ROOT}");
    println!("cargo:rerun-if-changed=build.rs");

    let mut compiler = protox::Compiler::new([PROTO_ROOT])?;
    compiler.include_imports(true).include_source_info(true).open_file(PROTO_FILE)?;

    // The descriptors are raw bytes, because prost's types drop unknown options, which reflection shows.
    let descriptors = Path::new(&env::var("OUT_DIR")?).join("contact_descriptor.bin");
    fs::write(descriptors, compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure()
        // No server is generated, because `grpc::Contacts` serves every method.
        .build_server(false)
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
