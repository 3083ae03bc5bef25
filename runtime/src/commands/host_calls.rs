//! `amber host-calls`: the list of host calls for people and programs.

use std::fmt::Write;

use amber_host::calls::{ABSENT, CALLS, HostCall, Part, READER};
use serde_json::{Value, json};

use super::syscalls::in_form;
use crate::cli::{PlatformName, TableFormat};

/// Prints the calls; those of one platform only unless that is left open.
pub fn print(format: TableFormat, platform: PlatformName) -> String {
    let left_out = match platform {
        PlatformName::Auto => None,
        PlatformName::Kvm => Some(Part::Ptrace),
        PlatformName::Ptrace => Some(Part::Kvm),
    };
    let chosen: Vec<&HostCall> = CALLS.iter().filter(|call| Some(call.part) != left_out).collect();
    in_form(format, &chosen, text, json, markdown)
}

fn rules(call: &HostCall) -> String {
    call.rules.iter().map(|rule| rule.meaning).collect::<Vec<_>>().join(", ")
}

fn text(list: &[&HostCall]) -> String {
    let mut out = format!("{:<18}{:<16}REASON\n", "NAME", "NEEDED FOR");
    for call in list {
        let only = if call.rules.is_empty() { String::new() } else { format!(" (only: {})", rules(call)) };
        // What fills a string cannot fail.
        let _ = writeln!(out, "{:<18}{:<16}{}{only}", call.name, call.part.name(), call.reason);
    }
    out
}

fn json(call: &HostCall) -> Value {
    let only: Vec<&str> = call.rules.iter().map(|rule| rule.meaning).collect();
    json!({
        "number": call.number,
        "name": call.name,
        "part": call.part.name(),
        "reason": call.reason,
        "only": only
    })
}

fn markdown(list: &[&HostCall]) -> String {
    let mut out = String::from(
        "# Host calls\n\n\
         What Amber itself asks of the host's kernel while a guest runs. A seccomp filter made from this list traps every\n\
         other call, and every call with other arguments than those named: Amber writes a line to its log and ends with\n\
         status 125. `amber host-calls --format markdown` writes this page.\n\n\
         The parts: *always*, in every sandbox; *ptrace* and *kvm*, on that platform; *handed files*, if a descriptor that\n\
         the guest begins with is a file of the host; *writable files*, if the guest may change files of the host (`--rw`,\n\
         `--volume`, a writable root of a bundle); *network*, if host sockets serve the guest; *own network*, if they are in\n\
         a network namespace of the sandbox's own; *control socket*, for containers. Stubs of the platform ptrace have a\n\
         filter of their own, with eight calls that only their own page of code may make.\n\n",
    );
    out.push_str("What the C library asks by itself fails with ENOSYS, as on a host that lacks it:\n\n");
    for call in ABSENT {
        let only = if call.rules.is_empty() { String::new() } else { format!(" ({})", rules(call)) };
        let _ = writeln!(out, "- `{}`{only}: {}", call.name, call.reason);
    }
    out.push_str(
        "\nWhere a guest was given `/proc` or `/sys` of the host, a process without rights reads them. It asks only for these,\n\
         and any other call ends it:\n\n",
    );
    for call in READER {
        let only = if call.rules.is_empty() { String::new() } else { format!(" ({})", rules(call)) };
        let _ = writeln!(out, "- `{}`{only}: {}", call.name, call.reason);
    }
    out.push('\n');
    out.push_str("| Name | Needed for | Only | Reason |\n| ---- | ---------- | ---- | ------ |\n");
    for call in list {
        let _ = writeln!(out, "| `{}` | {} | {} | {} |", call.name, call.part.name(), rules(call), call.reason);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_has_its_own_calls() {
        let kvm = print(TableFormat::Text, PlatformName::Kvm);
        assert!(kvm.contains("KVM_RUN") && !kvm.contains("SYSEMU"), "{kvm}");
        let list: Vec<Value> = serde_json::from_str(&print(TableFormat::Json, PlatformName::Auto)).unwrap();
        assert_eq!(list.len(), CALLS.len());
        assert_eq!(list[0]["name"], "read");
    }

    #[test]
    fn the_page_in_docs_is_up_to_date() {
        let fresh = print(TableFormat::Markdown, PlatformName::Auto);
        assert!(
            include_str!("../../../docs/host-calls.md") == fresh,
            "write it anew: cargo run -p amber -- host-calls --format markdown > docs/host-calls.md"
        );
    }
}
