//! Generates Rust code from the proto of the service, with the default settings of the generator, except
//! that methods that `bare` does not have answer UNIMPLEMENTED.

use std::error::Error;

const PROTO_ROOT: &str = "../../proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO_ROOT}");
    println!("cargo:rerun-if-changed=build.rs");
    let mut compiler = protox::Compiler::new([PROTO_ROOT])?;
    compiler.include_imports(true).open_file("hypersender/contact/v1/contact_service.proto")?;
    tonic_prost_build::configure()
        .generate_default_stubs(true)
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
