//! `amber host-calls`: prints the list of host calls.

use std::fmt::Write;

use amber_host::calls::{ABSENT, CALLS, HostCall, Part, READER};
use clap::ValueEnum;
use serde_json::{Value, json};

use super::syscalls::in_form;
use crate::cli::TableFormat;
use crate::platforms::{PlatformChoice, PlatformKind};

/// The part of Amber that needs a call, by its name in the lists, and the call.
struct Listed(&'static str, &'static HostCall);

/// The calls as text; with a platform, only those of that platform.
pub(super) fn print(format: TableFormat, platform: PlatformChoice) -> String {
    let platforms = match platform {
        PlatformChoice::Auto => PlatformKind::value_variants().to_vec(),
        PlatformChoice::Only(kind) => vec![kind],
    };
    let of_platforms =
        platforms.into_iter().flat_map(|kind| kind.host_calls().iter().map(move |call| Listed(kind.name(), call)));
    let of_parts = |always: bool| {
        let chosen = CALLS.iter().filter(move |(part, _)| (*part == Part::Always) == always);
        chosen.map(|(part, call)| Listed(part.name(), call))
    };
    let chosen: Vec<Listed> = of_parts(true).chain(of_platforms).chain(of_parts(false)).collect();
    in_form(format, &chosen.iter().collect::<Vec<_>>(), text, json, markdown)
}

fn rules(call: &HostCall) -> String {
    call.rules.iter().map(|rule| rule.meaning).collect::<Vec<_>>().join(", ")
}

fn text(list: &[&Listed]) -> String {
    let mut out = format!("{:<18}{:<16}REASON\n", "NAME", "NEEDED FOR");
    for Listed(part, call) in list {
        let only = if call.rules.is_empty() { String::new() } else { format!(" (only: {})", rules(call)) };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{:<18}{:<16}{}{only}", call.name, part, call.reason);
    }
    out
}

fn json(Listed(part, call): &Listed) -> Value {
    let only: Vec<&str> = call.rules.iter().map(|rule| rule.meaning).collect();
    json!({
        "number": call.number,
        "name": call.name,
        "part": part,
        "reason": call.reason,
        "only": only
    })
}

fn markdown(list: &[&Listed]) -> String {
    let mut out = String::from(
        "# Host calls\n\n\
         The calls that Amber itself makes on the host while a guest runs. A seccomp filter made from this list traps every\n\
         other call, and every call with other arguments than those named: Amber writes a line to its log and ends with\n\
         status 125. `amber host-calls --format markdown` writes this page.\n\n\
         The parts: *always*, in every sandbox; *ptrace* and *kvm*, on that platform; *handed files*, if a descriptor that\n\
         the guest begins with is a file of the host; *writable files*, if the guest may change files of the host (`--rw`,\n\
         `--volume`, a writable root of a bundle); *network*, if host sockets serve the guest; *own network*, if they are in\n\
         a network namespace of the sandbox's own; *control socket*, for containers. Stubs of the platform ptrace have a\n\
         filter of their own, with eight calls that only their own page of code may make.\n\n",
    );
    out.push_str("Calls that only the C library makes fail with ENOSYS, as on a host without them:\n\n");
    for call in ABSENT {
        let only = if call.rules.is_empty() { String::new() } else { format!(" ({})", rules(call)) };
        let _ = writeln!(out, "- `{}`{only}: {}", call.name, call.reason);
    }
    out.push_str(
        "\nIf a guest has `/proc` or `/sys` of the host, an unprivileged process reads them. It makes only these calls,\n\
         and any other call ends it:\n\n",
    );
    for call in READER {
        let only = if call.rules.is_empty() { String::new() } else { format!(" ({})", rules(call)) };
        let _ = writeln!(out, "- `{}`{only}: {}", call.name, call.reason);
    }
    out.push('\n');
    out.push_str("| Name | Needed for | Only | Reason |\n| ---- | ---------- | ---- | ------ |\n");
    for Listed(part, call) in list {
        let _ = writeln!(out, "| `{}` | {} | {} | {} |", call.name, part, rules(call), call.reason);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_has_its_own_calls() {
        let kvm = print(TableFormat::Text, PlatformChoice::Only(PlatformKind::Kvm));
        assert!(kvm.contains("KVM_RUN") && !kvm.contains("SYSEMU"), "{kvm}");
        let list: Vec<Value> = serde_json::from_str(&print(TableFormat::Json, PlatformChoice::Auto)).unwrap();
        let own: usize = PlatformKind::value_variants().iter().map(|kind| kind.host_calls().len()).sum();
        assert_eq!(list.len(), CALLS.len() + own);
        assert_eq!(list[0]["name"], "read");
    }

    #[test]
    fn the_page_in_docs_is_up_to_date() {
        let fresh = print(TableFormat::Markdown, PlatformChoice::Auto);
        assert!(
            include_str!("../../../docs/host-calls.md") == fresh,
            "write it anew: cargo run -p amber -- host-calls --format markdown > docs/host-calls.md"
        );
    }
}
