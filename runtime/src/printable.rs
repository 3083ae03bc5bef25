//! Makes text that a guest can influence safe for terminals, logs and lists.

use std::borrow::Cow;
use std::io::{self, Write};

/// Escapes, as in JSON (`\n`, `\u001b`), all characters that are not visible as themselves: control characters, marks
/// of writing direction, other invisible characters, unusual spaces. JSON stays the same JSON.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_printable) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_printable(c) => out.push(c),
            c => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    Cow::Owned(out)
}

/// Likewise for text of several lines, which may contain tabs.
pub(crate) fn printable_lines(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| matches!(c, '\n' | '\t') || is_printable(c)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.split_inclusive(['\n', '\t']).map(piece).collect())
}

/// Escapes a piece of such text, with its newline or tab.
fn piece(text: &str) -> Cow<'_, str> {
    match text.split_at_checked(text.len().saturating_sub(1)) {
        Some((content, end @ ("\n" | "\t"))) => Cow::Owned(printable(content).into_owned() + end),
        _ => printable(text),
    }
}

/// Whether `escape_debug` would keep the character, quotes aside.
fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~') || c.escape_debug().len() == 1
}

/// A writer that makes text printable. Each write must be one or more whole lines.
pub(crate) struct Printable<W>(pub W);

impl<W: Write> Write for Printable<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write_all(printable_lines(&String::from_utf8_lossy(buf)).as_bytes())?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Aligns columns, each as wide as its longest entry and at least `least`; the last is not padded.
pub(crate) fn in_columns(rows: &[Vec<String>], least: usize) -> String {
    // A newline in a name must not look like another row.
    let rows: Vec<Vec<_>> = rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let count = rows.first().map_or(0, Vec::len);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count() + 3).max();
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0).max(least)).collect();
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            let width = if column + 1 < count { widths.get(column).copied().unwrap_or(0) } else { 0 };
            text.push_str(&format!("{cell:width$}"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_escaped() {
        for (text, shown) in [
            ("plain \"quoted\" \\ ünïcode 漢字 🦀", "plain \"quoted\" \\ ünïcode 漢字 🦀"),
            ("a\u{1b}[31mred\r\n\tb\u{7f}\0", "a\\u001b[31mred\\r\\n\\tb\\u007f\\u0000"),
            (
                "\u{9b}2J \u{202e}txt.exe\u{2066} \u{200b}\u{a0}\u{feff}",
                "\\u009b2J \\u202etxt.exe\\u2066 \\u200b\\u00a0\\ufeff",
            ),
            ("\u{2028}\u{e0041}", "\\u2028\\udb40\\udc41"),
        ] {
            assert_eq!(printable(text), shown);
        }
        assert_eq!(printable_lines("a\n\tb\u{1b}\n\r"), "a\n\tb\\u001b\n\\r");
    }

    #[test]
    fn json_stays_the_same() {
        let value = serde_json::json!({"a\u{9b}": ["\u{202e}\u{e0041}", "\n\u{1b}\u{7f}", "\\ \""]});
        let text = serde_json::to_string_pretty(&value).unwrap();
        let safe = printable_lines(&text);
        assert!(safe.chars().all(|c| c == '\n' || is_printable(c)));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }

    #[test]
    fn a_writer_keeps_ends_of_lines() {
        let mut out = Printable(Vec::new());
        out.write_all(b"[pid 1] \xff\x1b[2J\n").unwrap();
        assert_eq!(String::from_utf8(out.0).unwrap(), "[pid 1] \u{fffd}\\u001b[2J\n");
    }
}
