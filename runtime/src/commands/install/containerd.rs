//! The section for Amber in containerd's config.toml.

use anyhow::{Context, Result, bail, ensure};
use toml_edit::{DocumentMut, Item};

const BEGIN: &str = "# Written by amber install: begin";
const END: &str = "# Written by amber install: end";
/// The first line of a file that Amber creates.
const VERSION: &str = "version = 2\n";

/// Appends the section.
///
/// # Errors
/// The text is not valid TOML, has a section of this name that Amber did not write, or defines the runtimes in a form
/// that a section cannot extend.
pub(super) fn add(text: Option<&str>, program: &str) -> Result<String> {
    let rest = match text {
        Some(text) => strip(text),
        None => VERSION.to_owned(),
    };
    let document: DocumentMut = rest.parse()?;
    let plugin = plugin(&document)?;
    let table = format!("plugins.{plugin:?}.containerd.runtimes.amber");
    let (mut item, mut takes_sections) = (document.as_item(), true);
    for key in ["plugins", plugin, "containerd", "runtimes", "amber"] {
        match item.get(key) {
            None => break,
            Some(_) if key == "amber" => {
                bail!("there is a runtime called amber, which amber install did not write; change it there")
            }
            Some(inner) => item = inner,
        }
        takes_sections &= item.as_table().is_some_and(|table| !table.is_dotted());
    }
    // An inline table or dotted keys cannot be extended by a section.
    ensure!(takes_sections, "there are inline tables or dotted keys where [{table}] belongs; add it there by hand");
    let newline = if rest.is_empty() || rest.ends_with('\n') { "" } else { "\n" };
    Ok(format!(
        "{rest}{newline}{BEGIN}\n[{table}]\n  runtime_type = \"io.containerd.runc.v2\"\n  [{table}.options]\n    \
         BinaryName = {program:?}\n{END}\n"
    ))
}

/// The name of the plugin that has the runtimes, by the version of the configuration. A configuration without a version
/// has version 1.
fn plugin(document: &DocumentMut) -> Result<&'static str> {
    let version = document.get("version").map_or(Some(1), Item::as_integer).context("`version` is no number")?;
    Ok(match version {
        ..=1 => "cri",
        2 => "io.containerd.grpc.v1.cri",
        3.. => "io.containerd.cri.v1.runtime",
    })
}

/// Removes the section. Returns `None` if nothing remains but what Amber wrote.
///
/// # Errors
/// Never fails; the type is that of [`Target::remove`](super::Target).
pub(super) fn remove(text: &str) -> Result<Option<String>> {
    let rest = strip(text);
    Ok((rest != VERSION || rest == text).then_some(rest))
}

fn strip(text: &str) -> String {
    match (text.find(BEGIN), text.find(END)) {
        (Some(begin), Some(end)) if begin < end => {
            let back = text.get(end + END.len()..).unwrap_or_default();
            format!("{}{}", text.get(..begin).unwrap_or_default(), back.strip_prefix('\n').unwrap_or(back))
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds the runtime, checks that this is idempotent and reversible, and returns the document with the name of its
    /// plugin.
    fn added(text: &str) -> Result<(DocumentMut, &'static str)> {
        let whole = add(Some(text), "/usr/bin/amber")?;
        assert_eq!(add(Some(&whole), "/usr/bin/amber")?, whole, "twice is once");
        assert!(whole.starts_with(text), "{whole}");
        assert_eq!(remove(&whole)?.unwrap().trim_end(), text.trim_end());
        let document: DocumentMut = whole.parse()?;
        let plugin = plugin(&document)?;
        Ok((document, plugin))
    }

    #[test]
    fn the_version_says_where_runtimes_are() {
        const CRI: &str = "io.containerd.grpc.v1.cri";
        const NEW: &str = "io.containerd.cri.v1.runtime";
        for (text, wanted) in [
            ("", "cri"),
            ("#   Copyright\ndisabled_plugins = [\"cri\"]\n\n#[grpc]\n#  uid = 0\n", "cri"),
            ("version = 1\n[plugins.cri.containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v1\"\n", "cri"),
            ("version=2#two\n[ plugins . \"io.containerd.grpc.v1.cri\" ]\n  a=1", CRI),
            // Neither comments nor other tables count as the version or the runtimes.
            ("version = 2\n# version=3: runtimes.amber\n[proxy_plugins.x]\nversion = 3\n", CRI),
            (
                "version = 2\n[plugins]\n  [plugins.'io.containerd.grpc.v1.cri'.cni]\n    bin_dir = \"/usr/lib/cni\"\n",
                CRI,
            ),
            ("imports = []\n  \"version\"  =  0x3\n[plugins.'io.containerd.cri.v1.runtime'.containerd]\n", NEW),
            ("version = 4\n[debug]\nlevel = ''\n", NEW),
        ] {
            let (document, plugin) = added(text).unwrap();
            assert_eq!(plugin, wanted, "{text}");
            let amber = &document["plugins"][plugin]["containerd"]["runtimes"]["amber"];
            assert_eq!(amber["runtime_type"].as_str(), Some("io.containerd.runc.v2"));
            assert_eq!(amber["options"]["BinaryName"].as_str(), Some("/usr/bin/amber"));
        }
    }

    #[test]
    fn what_cannot_be_added_to_is_told() {
        let place = "plugins.\"io.containerd.grpc.v1.cri\".containerd";
        for (text, reason) in [
            ("version = 2\n[x".to_owned(), "TOML parse error"),
            ("version = \"2\"\n".to_owned(), "`version` is no number"),
            (format!("version = 2\n[{place}.runtimes.amber]\n"), "did not write"),
            (format!("version = 2\n[{place}]\nruntimes = {{ amber = {{ runtime_type = 'x' }} }}\n"), "did not write"),
            (format!("version = 2\n{place}.runtimes.\"amber\".runtime_type = 'x'\n"), "did not write"),
            (
                format!("version = 2\n[{place}]\nruntimes = {{ runc = {{ runtime_type = 'x' }} }}\n"),
                "add it there by hand",
            ),
            (format!("version = 2\n{place}.runtimes.runc.runtime_type = 'x'\n"), "add it there by hand"),
        ] {
            let error = format!("{:#}", add(Some(&text), "/x").unwrap_err());
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
