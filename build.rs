//! Turns the proto into Rust code and a descriptor set, both in `OUT_DIR`, without a `protoc` on the machine.
//!
//! protox compiles the proto; `tonic-prost-build` (the prost half of tonic-build since tonic 0.14) writes the code.

use std::{env, error::Error, fs, path::Path};

const PROTO_ROOT: &str = "proto";
const PROTO_FILE: &str = "proto/hypersender/contact/v1/contact_service.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO_ROOT}");
    println!("cargo:rerun-if-changed=build.rs");

    let mut compiler = protox::Compiler::new([PROTO_ROOT])?;
    compiler.include_imports(true).include_source_info(true).open_file(PROTO_FILE)?;

    // Raw bytes, not prost's own types: prost would drop the options it does not know, and reflection shows them.
    let descriptors = Path::new(&env::var("OUT_DIR")?).join("contact_descriptor.bin");
    fs::write(descriptors, compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure()
        // Its one method is served by `grpc::Contacts`.
        .build_server(false)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
