//! Links the ring-0 stub as an ELF image of its own.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=stub");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let compiler = cc::Build::new().opt_level(0).get_compiler();
    let status = Command::new(compiler.path())
        .args(["-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-T,stub/stub.ld", "-o"])
        .arg(out.join("stub.elf"))
        .arg("stub/stub.S")
        .status()
        .unwrap_or_else(|error| panic!("{} does not run: {error}; install a C compiler", compiler.path().display()));
    assert!(status.success(), "linking the stub failed");
}
