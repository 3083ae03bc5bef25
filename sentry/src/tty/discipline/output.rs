//! Processing of output and echo.

use amber_abi::termios::{LocalModes, OutputModes, TAB3, TABDLY};

use super::LineDiscipline;

/// The distance of tab stops in columns.
pub(super) const TAB_STOP: usize = 8;
/// The maximum echo kept while output is stopped, in bytes, as on Linux.
const ECHO_LIMIT: usize = 4096;
const BACKSPACE: u8 = 8;

/// The capital letter for a small one of Latin-1, according to the kernel's tables.
fn to_capital(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' | 0xdf..=0xf6 | 0xf8..=0xff => byte - 0x20,
        _ => byte,
    }
}

impl LineDiscipline {
    /// The processed echo since the last call; none while output is stopped.
    pub(crate) fn take_echo(&mut self) -> Vec<u8> {
        if self.stopped { Vec::new() } else { std::mem::take(&mut self.echo) }
    }

    pub(super) fn forget_echo(&mut self) {
        self.echo.clear();
    }

    /// Echoes a byte, control characters as `^X`.
    pub(super) fn echo_char(&mut self, byte: u8) {
        if self.local(LocalModes::ECHOCTL) && byte.is_ascii_control() && byte != b'\t' {
            self.echo_all(&[b'^', byte ^ 0o100]);
        } else {
            self.echo_raw(byte);
        }
    }

    pub(super) fn echo_all(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.echo_raw(byte);
        }
    }

    pub(super) fn echo_raw(&mut self, byte: u8) {
        if self.stopped && self.echo.len() >= ECHO_LIMIT {
            return;
        }
        let mut echo = std::mem::take(&mut self.echo);
        self.process_output(byte, &mut echo);
        self.echo = echo;
    }

    /// Moves the cursor back, regardless of the output modes.
    pub(super) fn echo_backspaces(&mut self, count: usize) {
        self.echo.extend(std::iter::repeat_n(BACKSPACE, count));
    }

    /// Processes output of programs according to the output modes.
    pub(crate) fn process(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 8);
        for &byte in bytes {
            self.process_output(byte, &mut out);
        }
        out
    }

    fn process_output(&mut self, mut byte: u8, out: &mut Vec<u8>) {
        let modes = self.output_modes();
        if !modes.contains(OutputModes::OPOST) {
            return out.push(byte);
        }
        match byte {
            b'\n' => {
                if modes.contains(OutputModes::ONLCR) {
                    out.push(b'\r');
                    self.column = 0;
                } else if modes.contains(OutputModes::ONLRET) {
                    self.column = 0;
                }
            }
            b'\r' => {
                if modes.contains(OutputModes::ONOCR) && self.column == 0 {
                    return;
                }
                if modes.contains(OutputModes::OCRNL) {
                    byte = b'\n';
                }
                if !modes.contains(OutputModes::OCRNL) || modes.contains(OutputModes::ONLRET) {
                    self.column = 0;
                }
            }
            b'\t' => {
                let width = TAB_STOP - self.column % TAB_STOP;
                self.column = self.column.wrapping_add(width);
                if modes.bits() & TABDLY == TAB3 {
                    return out.extend(std::iter::repeat_n(b' ', width));
                }
            }
            BACKSPACE => self.column = self.column.saturating_sub(1),
            _ if byte.is_ascii_control() => {}
            _ => {
                if modes.contains(OutputModes::OLCUC) {
                    byte = to_capital(byte);
                }
                if !self.is_continuation(byte) {
                    self.column = self.column.wrapping_add(1);
                }
            }
        }
        out.push(byte);
    }
}
