//! The guest's `/etc/passwd` and `/etc/group`, and the name looked for in them, are hostile.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;
use std::{env, fs, process};

use amber_runtime::fuzzing::{name_of, resolve};
use libfuzzer_sys::fuzz_target;

static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = env::temp_dir().join(format!("amber-fuzz-accounts.{}", process::id()));
    fs::create_dir_all(directory.join("etc")).expect("a directory for the root");
    directory
});

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(3, |&byte| byte == 0);
    let [name, users, groups] = [(); 3].map(|()| parts.next().unwrap_or_default());
    fs::write(ROOT.join("etc/passwd"), users).expect("the files can be written");
    fs::write(ROOT.join("etc/group"), groups).expect("the files can be written");
    let name = String::from_utf8_lossy(name);
    if let Ok(account) = resolve(&ROOT, &name) {
        assert!(account.home.is_none_or(|home| !home.is_empty()), "a home has a name");
    }
    let _ = name_of(&ROOT, 0);
});
