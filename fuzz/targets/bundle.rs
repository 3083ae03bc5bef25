//! A bundle's `config.json` is hostile. It becomes the configuration of a sandbox or one line that says what is wrong.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;
use std::{env, fs, process};

use amber_runtime::fuzzing::Bundle;
use amber_sentry::profile::KernelProfile;
use libfuzzer_sys::fuzz_target;

/// The bundle, with an empty root.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = env::temp_dir().join(format!("amber-fuzz-bundle.{}", process::id()));
    fs::create_dir_all(directory.join("rootfs")).expect("a directory for the bundle");
    directory
});

fuzz_target!(|config: &[u8]| {
    fs::write(DIRECTORY.join("config.json"), config).expect("the bundle can be written");
    let described = Bundle::load(&DIRECTORY).and_then(|bundle| bundle.sandbox("id", KernelProfile::default(), None));
    if let Err(error) = described {
        assert!(!format!("{error:#}").contains('\n'), "an error is one line: {error:#}");
    }
});
