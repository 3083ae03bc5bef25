//! Line editing, in the buffer and on the screen.

use amber_abi::termios::LocalModes;

use super::LineDiscipline;
use super::output::TAB_STOP;

/// The characters that an editing key removes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Erase {
    Character,
    Word,
    Line,
}

/// Whether a byte is a letter or digit of Latin-1, according to the kernel's tables. So are the first bytes of most
/// characters in UTF-8.
fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || (byte >= 0xc0 && byte != 0xd7 && byte != 0xf7)
}

impl LineDiscipline {
    /// Shows the line being edited again (`VREPRINT`).
    pub(super) fn reprint(&mut self, key: u8) {
        self.finish_erasing();
        self.echo_char(key);
        self.echo_raw(b'\n');
        let line: Vec<u8> = self.input.iter().skip(self.complete).map(|cell| cell.byte).collect();
        self.line_column = 0;
        for byte in line {
            self.echo_char(byte);
        }
    }

    /// Removes characters from the line being edited and from the screen.
    pub(super) fn erase(&mut self, key: u8, what: Erase) {
        if self.input.len() == self.complete {
            return;
        }
        if what == Erase::Line {
            let visual = LocalModes::ECHOK | LocalModes::ECHOKE | LocalModes::ECHOE;
            if !self.local(LocalModes::ECHO) {
                return self.input.truncate(self.complete);
            }
            if !self.local(visual) {
                self.input.truncate(self.complete);
                self.finish_erasing();
                self.echo_char(key);
                if self.local(LocalModes::ECHOK) {
                    self.echo_raw(b'\n');
                }
                return;
            }
        }
        let mut in_word = false;
        while let Some(character) = self.last_character() {
            let first = character.first().copied().unwrap_or_default();
            if what == Erase::Word {
                if is_alphanumeric(first) || first == b'_' {
                    in_word = true;
                } else if in_word {
                    break;
                }
            }
            self.input.truncate(self.input.len().saturating_sub(character.len()));
            if self.local(LocalModes::ECHO) {
                self.show_erased(key, what, &character);
            }
            if what == Erase::Character {
                break;
            }
        }
        if self.input.len() == self.complete && self.local(LocalModes::ECHO) {
            self.finish_erasing();
        }
    }

    /// The bytes of the last character being edited; none if there is none, or only a part of one.
    fn last_character(&self) -> Option<Vec<u8>> {
        let edited = self.input.range(self.complete..).map(|cell| cell.byte);
        let mut bytes = Vec::new();
        for byte in edited.rev() {
            bytes.push(byte);
            if !self.is_continuation(byte) {
                bytes.reverse();
                return Some(bytes);
            }
        }
        None
    }

    fn show_erased(&mut self, key: u8, what: Erase, character: &[u8]) {
        let first = character.first().copied().unwrap_or_default();
        if self.local(LocalModes::ECHOPRT) {
            if !self.erasing {
                self.echo_raw(b'\\');
                self.erasing = true;
            }
            self.echo_char(first);
            for &byte in character.get(1..).unwrap_or_default() {
                self.echo_raw(byte);
            }
        } else if what == Erase::Character && !self.local(LocalModes::ECHOE) {
            self.echo_char(key);
        } else if first == b'\t' {
            self.erase_tab();
        } else {
            let control = first.is_ascii_control();
            if control && self.local(LocalModes::ECHOCTL) {
                self.echo_all(b"\x08 \x08");
            }
            if !control || self.local(LocalModes::ECHOCTL) {
                self.echo_all(b"\x08 \x08");
            }
        }
    }

    /// Moves the cursor back over a tab that was removed from the line.
    fn erase_tab(&mut self) {
        let echoes_control = self.local(LocalModes::ECHOCTL);
        let mut column = self.line_column;
        for cell in self.input.range(self.complete..) {
            column = match cell.byte {
                b'\t' => (column / TAB_STOP + 1) * TAB_STOP,
                byte if byte.is_ascii_control() => column + if echoes_control { 2 } else { 0 },
                byte if self.is_continuation(byte) => column,
                _ => column + 1,
            };
        }
        let width = (column / TAB_STOP + 1) * TAB_STOP - column;
        self.echo_backspaces(width);
        self.column = column;
    }

    pub(super) fn finish_erasing(&mut self) {
        if std::mem::take(&mut self.erasing) {
            self.echo_raw(b'/');
        }
    }
}
