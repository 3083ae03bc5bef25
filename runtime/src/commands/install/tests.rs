//! Configurations before, with and after Amber.

use std::fs;

use super::*;

fn args(prefix: &Path) -> InstallArgs {
    InstallArgs { engines: Vec::new(), prefix: prefix.to_owned(), yes: true, dry_run: false }
}

#[test]
fn what_is_installed_is_uninstalled_to_the_byte() {
    for (file, before) in [
        ("etc/docker/daemon.json", Some("{\n  \"debug\": true,\n  \"a\": 1\n}\n")),
        ("etc/docker/daemon.json", Some("{ \"runtimes\": {\"x\": {\"path\": \"/x\"}}, \"b\": 0 }")),
        ("etc/docker/daemon.json", Some("{}")),
        ("etc/docker/daemon.json", None),
        ("etc/containerd/config.toml", Some("version = 2\n[debug]\n  level = \"info\"")),
        ("etc/containerd/config.toml", None),
        ("etc/containers/containers.conf.d/50-amber.conf", None),
    ] {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if let Some(text) = before {
            fs::write(&path, text).unwrap();
        }
        install(&args(root.path())).unwrap();
        let installed = fs::read_to_string(&path).unwrap();
        let program = env::current_exe().unwrap();
        assert!(installed.contains(program.to_str().unwrap()), "{installed}");
        if file.ends_with("json") {
            let config: serde_json::Value = serde_json::from_str(&installed).unwrap();
            assert!(config["runtimes"]["amber"]["path"].is_string());
        }
        assert_eq!(backup(&path).exists(), before.is_some());
        // A second installation changes nothing.
        install(&args(root.path())).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), installed);
        uninstall(&args(root.path())).unwrap();
        assert_eq!(fs::read_to_string(&path).ok().as_deref(), before, "{file}");
        assert!(!backup(&path).exists());
    }
}

#[test]
fn what_others_changed_since_stays() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("etc/docker/daemon.json");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "{\"debug\": true}").unwrap();
    install(&args(root.path())).unwrap();
    let text = fs::read_to_string(&path).unwrap().replacen("true", "false", 1);
    fs::write(&path, text).unwrap();
    uninstall(&args(root.path())).unwrap();
    let config: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(config, serde_json::json!({"debug": false}));
}

#[test]
fn nothing_is_written_without_consent_or_sense() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("etc/docker/daemon.json");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    install(&InstallArgs { dry_run: true, ..args(root.path()) }).unwrap();
    assert!(!path.exists());
    fs::write(&path, "{ no json").unwrap();
    assert!(format!("{:#}", install(&args(root.path())).unwrap_err()).contains("daemon.json"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "{ no json");
}
