//! Generates the wire code. Both compilers are pure Rust: neither protoc nor a C compiler is needed.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use protox::prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // A feature that is off must not cost its compiler's time: the shim's build never sees the CRI.
    if env::var_os("CARGO_FEATURE_CRI").is_some() {
        println!("cargo::rerun-if-changed=cri");
        cri(&out)?;
    }
    if env::var_os("CARGO_FEATURE_SHIM").is_some() {
        println!("cargo::rerun-if-changed=shim");
        shim(&out)?;
    }
    Ok(())
}

/// The CRI, for prost and tonic. The compiled descriptors are kept beside the code: the golden test reads them.
fn cri(out: &Path) -> Result<(), Box<dyn Error>> {
    let descriptors = protox::compile(["service.proto"], ["cri"])?;
    fs::write(out.join("cri.descriptors"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .out_dir(out)
        // Labels and annotations show in answers and in logs: their order must not change between two calls.
        .btree_map(".")
        // Holds passwords; src/cri.rs has its Debug.
        .skip_debug(["runtime.v1.AuthConfig"])
        .compile_fds(descriptors)?;
    Ok(())
}

/// The shim service, for rust-protobuf and ttrpc.
fn shim(out: &Path) -> Result<(), Box<dyn Error>> {
    let out = out.join("shim");
    fs::create_dir_all(&out)?;
    ttrpc_codegen::Codegen::new()
        .out_dir(&out)
        .input("shim/shim.proto")
        .include("shim")
        .rust_protobuf()
        // Reflection is text and tables that every shim would carry for nothing.
        .rust_protobuf_customize(ttrpc_codegen::ProtobufCustomize::default().lite_runtime(true))
        .customize(ttrpc_codegen::Customize {
            async_all: true,
            ..Default::default()
        })
        .run()?;
    // Neither generator's own index names the other's file.
    fs::write(out.join("mod.rs"), "pub mod shim;\npub mod shim_ttrpc;\n")?;
    Ok(())
}
