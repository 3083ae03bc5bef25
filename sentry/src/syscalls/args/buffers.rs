//! Arguments that are strings and buffers.

use super::{View, addresses, nullable, put};

/// Maximum number of bytes printed, the default of strace(1)'s `-s`.
pub(super) const SHOWN: usize = 32;

/// Prints bytes as a C string literal, at most [`SHOWN`] of the `whole` bytes.
pub(super) fn show_bytes(bytes: &[u8], whole: usize, out: &mut String) {
    out.push('"');
    for &byte in bytes.iter().take(SHOWN) {
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\t' => out.push_str("\\t"),
            b'\r' => out.push_str("\\r"),
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            0x20..=0x7e => out.push(char::from(byte)),
            _ => put!(out, "\\{byte:o}"),
        }
    }
    out.push('"');
    if whole > SHOWN {
        out.push_str("...");
    }
}

/// Prints `len` bytes at `address`, or the address if they cannot be read.
pub(super) fn show_memory(view: &View<'_>, address: u64, len: u64, out: &mut String) {
    let mut bytes = vec![0; len.min(SHOWN as u64 + 1) as usize];
    if address != 0 && view.ctx.read_bytes(address, &mut bytes).is_ok() {
        show_bytes(&bytes, usize::try_from(len).unwrap_or(usize::MAX), out);
    } else if address == 0 {
        out.push_str("NULL");
    } else {
        put!(out, "{address:#x}");
    }
}

/// Prints the string at `address`.
pub(super) fn show_string(view: &View<'_>, address: u64, most: usize, out: &mut String) {
    match view.ctx.read_string(address, 4096) {
        Ok(text) if address != 0 => {
            if text.len() > most {
                show_bytes(&text, text.len(), out);
            } else {
                show_quoted(&text, out);
            }
        }
        _ if address == 0 => out.push_str("NULL"),
        _ => put!(out, "{address:#x}"),
    }
}

/// Prints a string in full.
fn show_quoted(text: &[u8], out: &mut String) {
    for (i, part) in text.chunks(SHOWN).enumerate() {
        let mut piece = String::new();
        show_bytes(part, part.len(), &mut piece);
        if i > 0 {
            out.pop();
        }
        out.push_str(if i > 0 { piece.get(1..).unwrap_or_default() } else { &piece });
    }
    if text.is_empty() {
        out.push_str("\"\"");
    }
}

addresses! {
    /// A path, printed in full.
    Path, out false, |view, out| show_string(view, view.value(), 4096, out);
    /// A string.
    Str, out false, |view, out| show_string(view, view.value(), SHOWN, out);
    /// A buffer for a string that the kernel writes.
    StrOut, out true, show_written_string;
    /// Bytes that the kernel reads; the next argument is their number.
    BufIn, out false, |view, out| show_memory(view, view.value(), view.next(), out);
    /// A buffer that the kernel writes; the next argument is its size, the result the number of bytes.
    BufOut, out true, show_written;
}

nullable! { Path, Str }

fn show_written_string(view: &View<'_>, out: &mut String) {
    if view.succeeded() { show_string(view, view.value(), 4096, out) } else { view.show_address(out) }
}

fn show_written(view: &View<'_>, out: &mut String) {
    match view.result {
        Some(Ok(len)) => show_memory(view, view.value(), (*len).min(view.next()), out),
        _ => view.show_address(out),
    }
}
