//! Processing of input: translation, flow control, signals, and ends of lines.

use amber_abi::Signal;
use amber_abi::termios::{
    InputModes, LocalModes, VEOF, VEOL, VEOL2, VERASE, VINTR, VKILL, VLNEXT, VQUIT, VREPRINT, VSTART, VSTOP, VSUSP,
    VWERASE,
};

use super::editing::Erase;
use super::{Cell, DISABLED, INPUT_LIMIT, LineDiscipline, Received};

/// The small letter for a capital one of Latin-1, according to the kernel's tables.
fn to_small(byte: u8) -> u8 {
    match byte {
        b'A'..=b'Z' | 0xc0..=0xd6 | 0xd8..=0xde => byte + 0x20,
        _ => byte,
    }
}

impl LineDiscipline {
    /// Processes input, as many bytes as there is room for.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Received {
        let mut received = Received::default();
        for &byte in bytes {
            if !self.make_room() {
                break;
            }
            self.receive_byte(byte, &mut received);
            received.taken += 1;
        }
        received
    }

    /// Whether there is room for a byte. The last byte of a line that is too long is overwritten, so that the line can
    /// be ended; complete input is not.
    fn make_room(&mut self) -> bool {
        if self.input.len() < INPUT_LIMIT {
            return true;
        }
        let overflows = self.is_canonical() && self.complete == 0;
        if overflows && self.input.len() > INPUT_LIMIT {
            self.input.pop_back();
        }
        overflows
    }

    fn receive_byte(&mut self, mut byte: u8, received: &mut Received) {
        let modes = self.input_modes();
        if modes.contains(InputModes::ISTRIP) {
            byte &= 0x7f;
        }
        if modes.contains(InputModes::IUCLC) && self.local(LocalModes::IEXTEN) {
            byte = to_small(byte);
        }
        if std::mem::take(&mut self.literal_next) {
            self.start_by_any();
            return self.take_plain(byte);
        }
        if self.local(LocalModes::EXTPROC) {
            return self.push(byte);
        }
        if modes.contains(InputModes::IXON) {
            if self.is_key(byte, VSTART) {
                return self.start();
            }
            if self.is_key(byte, VSTOP) {
                return self.stop();
            }
        }
        if let Some(signal) = self.signal_of(byte) {
            return self.take_signal(byte, signal, received);
        }
        self.start_by_any();
        let typed = byte;
        match byte {
            b'\r' if modes.contains(InputModes::IGNCR) => return,
            b'\r' if modes.contains(InputModes::ICRNL) => byte = b'\n',
            b'\n' if modes.contains(InputModes::INLCR) => byte = b'\r',
            _ => {}
        }
        if self.is_canonical() {
            return self.take_canonical(byte);
        }
        if byte == b'\n' && typed != byte {
            // A carriage return translated to a newline is echoed as one.
            if self.local(LocalModes::ECHO) {
                self.finish_erasing();
                self.echo_raw(byte);
            }
            return self.store(byte);
        }
        self.take_plain(byte);
    }

    /// Under `IXANY`, any character restarts output.
    fn start_by_any(&mut self) {
        if self.input_modes().contains(InputModes::IXON | InputModes::IXANY) {
            self.start();
        }
    }

    fn signal_of(&self, byte: u8) -> Option<Signal> {
        let keys = [(VINTR, Signal::SIGINT), (VQUIT, Signal::SIGQUIT), (VSUSP, Signal::SIGTSTP)];
        let found = keys.into_iter().find(|&(key, _)| self.is_key(byte, key))?;
        self.local(LocalModes::ISIG).then_some(found.1)
    }

    fn take_signal(&mut self, byte: u8, signal: Signal, received: &mut Received) {
        if !self.local(LocalModes::NOFLSH) {
            self.flush_input();
            self.forget_echo();
            received.flush_output = true;
        }
        if self.input_modes().contains(InputModes::IXON) {
            self.start();
        }
        if self.local(LocalModes::ECHO) {
            self.echo_char(byte);
        }
        received.signals.push(signal);
    }

    /// Takes a byte without a special meaning.
    fn take_plain(&mut self, byte: u8) {
        if self.local(LocalModes::ECHO) {
            self.finish_erasing();
            self.begin_line();
            self.echo_char(byte);
        }
        self.store(byte);
    }

    fn store(&mut self, byte: u8) {
        // A byte equal to the mark of errors is doubled.
        if byte == 0xff && self.input_modes().contains(InputModes::PARMRK) {
            self.push(byte);
        }
        self.push(byte);
    }

    fn push(&mut self, byte: u8) {
        self.input.push_back(Cell { byte, ends_line: false, is_eof: false });
        if !self.is_canonical() {
            self.complete = self.input.len();
        }
    }

    fn begin_line(&mut self) {
        if self.complete == self.input.len() {
            self.line_column = self.column;
        }
    }

    fn take_canonical(&mut self, byte: u8) {
        let extended = self.local(LocalModes::IEXTEN);
        let echoes = self.local(LocalModes::ECHO);
        if self.is_key(byte, VERASE) {
            return self.erase(byte, Erase::Character);
        }
        if self.is_key(byte, VKILL) {
            return self.erase(byte, Erase::Line);
        }
        if extended && self.is_key(byte, VWERASE) {
            return self.erase(byte, Erase::Word);
        }
        if extended && self.is_key(byte, VLNEXT) {
            self.literal_next = true;
            if echoes {
                self.finish_erasing();
                if self.local(LocalModes::ECHOCTL) {
                    self.echo_all(b"^\x08");
                }
            }
            return;
        }
        if extended && self.is_key(byte, VREPRINT) && echoes {
            return self.reprint(byte);
        }
        if byte == b'\n' {
            if echoes || self.local(LocalModes::ECHONL) {
                self.echo_raw(b'\n');
            }
            return self.end_line(byte, false);
        }
        if self.is_key(byte, VEOF) {
            return self.end_line(DISABLED, true);
        }
        if self.is_key(byte, VEOL) || (extended && self.is_key(byte, VEOL2)) {
            if echoes {
                self.begin_line();
                self.echo_char(byte);
            }
            return self.end_line(byte, false);
        }
        self.take_plain(byte);
    }

    fn end_line(&mut self, byte: u8, is_eof: bool) {
        self.input.push_back(Cell { byte, ends_line: true, is_eof });
        self.complete = self.input.len();
    }
}
