//! The line discipline: what happens to bytes between a terminal and the programs on it (Linux's `n_tty`; termios(3)).
//!
//! It is plain data and logic: bytes go in, and what comes out is bytes for the other side and [`Signal`]s. Locks, waiting
//! and job control are its users' business.

use std::collections::VecDeque;

use amber_abi::Signal;
use amber_abi::termios::{
    InputModes, LocalModes, OutputModes, TAB3, TABDLY, Termios, VEOF, VEOL, VEOL2, VERASE, VINTR, VKILL, VLNEXT, VMIN,
    VQUIT, VREPRINT, VSTART, VSTOP, VSUSP, VTIME, VWERASE,
};

/// Most bytes of input that wait for a reader, as on Linux.
const INPUT_LIMIT: usize = 4095;
/// The value of a control character that is switched off.
const DISABLED: u8 = 0;
const TAB_STOP: usize = 8;
const BELL: u8 = 7;

/// A byte of input that waits to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    byte: u8,
    /// In canonical mode, the line ends with this byte.
    ends_line: bool,
    /// The end is an end-of-file character, which no reader gets to see.
    is_eof: bool,
}

/// Which characters an editing key removes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Erase {
    Character,
    Word,
    Line,
}

/// The state of one terminal's line discipline.
pub struct LineDiscipline {
    termios: Termios,
    input: VecDeque<Cell>,
    /// How many cells belong to complete lines; what follows can still be edited.
    complete: usize,
    /// The next character is taken literally.
    literal_next: bool,
    /// Characters are being erased in the `ECHOPRT` way.
    erasing: bool,
    /// Where the cursor stands, for tabs.
    column: usize,
    /// Where the cursor stood when the line being edited began.
    line_column: usize,
    /// Output is held by the stop character.
    stopped: bool,
    /// Echo on its way to the terminal.
    echo: Vec<u8>,
}

impl Default for LineDiscipline {
    fn default() -> Self {
        LineDiscipline {
            termios: Termios::INITIAL,
            input: VecDeque::new(),
            complete: 0,
            literal_next: false,
            erasing: false,
            column: 0,
            line_column: 0,
            stopped: false,
            echo: Vec::new(),
        }
    }
}

/// What received bytes brought about.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Signals for the foreground process group, in order.
    pub signals: Vec<Signal>,
    /// A signal key flushed the output that had not reached the terminal.
    pub flush_output: bool,
    /// How many of the bytes were taken; the rest must come again when there is room.
    pub taken: usize,
}

impl LineDiscipline {
    /// The modes.
    pub fn termios(&self) -> &Termios {
        &self.termios
    }

    /// Changes the modes. On the way to canonical mode, what is buffered becomes a line of its own.
    pub fn set_termios(&mut self, new: Termios) {
        let was_canonical = self.is_canonical();
        self.termios = new;
        if self.is_canonical() != was_canonical {
            self.erasing = false;
            self.literal_next = false;
            if let Some(last) = self.input.back_mut()
                && !was_canonical
            {
                last.ends_line = true;
            }
            self.complete = self.input.len();
        }
        if !self.input_modes().contains(InputModes::IXON) {
            self.stopped = false;
        }
    }

    fn input_modes(&self) -> InputModes {
        InputModes::from_bits_retain(self.termios.c_iflag)
    }

    fn output_modes(&self) -> OutputModes {
        OutputModes::from_bits_retain(self.termios.c_oflag)
    }

    fn local_modes(&self) -> LocalModes {
        LocalModes::from_bits_retain(self.termios.c_lflag)
    }

    fn local(&self, mode: LocalModes) -> bool {
        self.local_modes().contains(mode)
    }

    /// Whether input comes in lines.
    pub fn is_canonical(&self) -> bool {
        self.local(LocalModes::ICANON)
    }

    /// Whether a background write stops the writer.
    pub fn stops_background_output(&self) -> bool {
        self.local(LocalModes::TOSTOP)
    }

    fn is_key(&self, byte: u8, key: usize) -> bool {
        byte != DISABLED && self.termios.c_cc[key] == byte
    }

    fn is_continuation(&self, byte: u8) -> bool {
        self.input_modes().contains(InputModes::IUTF8) && byte & 0xc0 == 0x80
    }

    /// Whether output is held by the stop character or by tcflow(3).
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Holds output or lets it go.
    pub fn set_stopped(&mut self, stopped: bool) {
        self.stopped = stopped;
    }

    /// The echo produced since the last call, with output processing done.
    pub fn take_echo(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.echo)
    }

    /// Takes bytes typed at the terminal.
    pub fn receive(&mut self, bytes: &[u8]) -> Received {
        let mut received = Received::default();
        for &byte in bytes {
            // In canonical mode a full buffer swallows what is typed, so that the line can still be ended.
            if self.input.len() >= INPUT_LIMIT && !self.is_canonical() {
                break;
            }
            self.receive_byte(byte, &mut received);
            received.taken += 1;
        }
        received
    }

    fn receive_byte(&mut self, mut byte: u8, received: &mut Received) {
        let modes = self.input_modes();
        if modes.contains(InputModes::ISTRIP) {
            byte &= 0x7f;
        }
        if modes.contains(InputModes::IUCLC) && self.local(LocalModes::IEXTEN) {
            byte = byte.to_ascii_lowercase();
        }
        if std::mem::take(&mut self.literal_next) {
            return self.take_plain(byte);
        }
        if self.local(LocalModes::EXTPROC) {
            return self.store(byte);
        }
        if modes.contains(InputModes::IXON) {
            if self.is_key(byte, VSTART) {
                self.stopped = false;
                return;
            }
            if self.is_key(byte, VSTOP) {
                self.stopped = true;
                return;
            }
        }
        if self.stopped && modes.contains(InputModes::IXON | InputModes::IXANY) {
            self.stopped = false;
        }
        if let Some(signal) = self.signal_of(byte) {
            return self.take_signal(byte, signal, received);
        }
        match byte {
            b'\r' if modes.contains(InputModes::IGNCR) => return,
            b'\r' if modes.contains(InputModes::ICRNL) => byte = b'\n',
            b'\n' if modes.contains(InputModes::INLCR) => byte = b'\r',
            _ => {}
        }
        if self.is_canonical() { self.take_canonical(byte) } else { self.take_plain(byte) }
    }

    fn signal_of(&self, byte: u8) -> Option<Signal> {
        let keys = [(VINTR, Signal::SIGINT), (VQUIT, Signal::SIGQUIT), (VSUSP, Signal::SIGTSTP)];
        let found = keys.into_iter().find(|&(key, _)| self.is_key(byte, key))?;
        self.local(LocalModes::ISIG).then_some(found.1)
    }

    fn take_signal(&mut self, byte: u8, signal: Signal, received: &mut Received) {
        if !self.local(LocalModes::NOFLSH) {
            self.flush_input();
            self.echo.clear();
            received.flush_output = true;
        }
        self.stopped = false;
        if self.local(LocalModes::ECHO) {
            self.echo_char(byte);
        }
        received.signals.push(signal);
    }

    /// Takes a byte without meaning, or one whose meaning is switched off.
    fn take_plain(&mut self, byte: u8) {
        if self.is_full() {
            return;
        }
        if self.local(LocalModes::ECHO) {
            self.finish_erasing();
            if byte == b'\n' {
                self.echo_raw(byte);
            } else {
                self.begin_line();
                self.echo_char(byte);
            }
        }
        self.store(byte);
    }

    /// A full buffer takes nothing more; canonical mode keeps one place for the end of the line.
    fn is_full(&mut self) -> bool {
        let full = self.input.len() >= INPUT_LIMIT;
        if full && self.input_modes().contains(InputModes::IMAXBEL) {
            self.echo_raw(BELL);
        }
        full
    }

    fn store(&mut self, byte: u8) {
        let mut push = |byte| self.input.push_back(Cell { byte, ends_line: false, is_eof: false });
        push(byte);
        let marks = InputModes::from_bits_retain(self.termios.c_iflag).contains(InputModes::PARMRK);
        if marks && byte == 0xff {
            self.input.push_back(Cell { byte, ends_line: false, is_eof: false });
        }
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
            if self.local(LocalModes::ECHO) {
                self.finish_erasing();
                if self.local(LocalModes::ECHOCTL) {
                    self.echo_all(b"^\x08");
                }
            }
            return;
        }
        if extended && self.is_key(byte, VREPRINT) && self.local(LocalModes::ECHO) {
            return self.reprint(byte);
        }
        if byte == b'\n' {
            if self.local(LocalModes::ECHO) || self.local(LocalModes::ECHONL) {
                self.finish_erasing();
                self.echo_raw(b'\n');
            }
            return self.end_line(byte, false);
        }
        if self.is_key(byte, VEOF) {
            return self.end_line(DISABLED, true);
        }
        if self.is_key(byte, VEOL) || (extended && self.is_key(byte, VEOL2)) {
            if self.local(LocalModes::ECHO) {
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

    fn reprint(&mut self, byte: u8) {
        self.finish_erasing();
        self.echo_char(byte);
        self.echo_raw(b'\n');
        let line: Vec<u8> = self.input.iter().skip(self.complete).map(|cell| cell.byte).collect();
        self.line_column = 0;
        for byte in line {
            self.echo_char(byte);
        }
    }

    /// Removes characters from the line being edited and from the screen.
    fn erase(&mut self, key: u8, what: Erase) {
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
        while self.input.len() > self.complete {
            let Some(character) = self.last_character() else { break };
            let first = character.first().copied().unwrap_or_default();
            if what == Erase::Word {
                if first.is_ascii_alphanumeric() || first == b'_' || first >= 0x80 {
                    in_word = true;
                } else if in_word {
                    break;
                }
            }
            self.input.truncate(self.input.len() - character.len());
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

    /// The bytes of the last character being edited; none if the line holds only a part of one.
    fn last_character(&self) -> Option<Vec<u8>> {
        let mut start = self.input.len();
        loop {
            start -= 1;
            if !self.is_continuation(self.input[start].byte) {
                break;
            }
            if start == self.complete {
                return None;
            }
        }
        Some(self.input.range(start..).map(|cell| cell.byte).collect())
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

    /// Moves the cursor back over a tab that was just removed from the line.
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
        for _ in 0..width {
            self.echo.push(8);
        }
        self.column = column;
    }

    fn finish_erasing(&mut self) {
        if std::mem::take(&mut self.erasing) {
            self.echo_raw(b'/');
        }
    }

    /// Echoes a byte, control characters as `^X`.
    fn echo_char(&mut self, byte: u8) {
        if self.local(LocalModes::ECHOCTL) && byte.is_ascii_control() && byte != b'\t' {
            self.echo_all(&[b'^', byte ^ 0o100]);
        } else {
            self.echo_raw(byte);
        }
    }

    fn echo_all(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.echo_raw(byte);
        }
    }

    fn echo_raw(&mut self, byte: u8) {
        let mut echo = std::mem::take(&mut self.echo);
        self.process_output(byte, &mut echo);
        self.echo = echo;
    }

    /// Processes bytes that a program writes, as the output modes say.
    pub fn process(&mut self, bytes: &[u8]) -> Vec<u8> {
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
                self.column += width;
                if modes.bits() & TABDLY == TAB3 {
                    return out.extend(std::iter::repeat_n(b' ', width));
                }
            }
            8 => self.column = self.column.saturating_sub(1),
            _ if byte.is_ascii_control() => {}
            _ => {
                if modes.contains(OutputModes::OLCUC) {
                    byte = byte.to_ascii_uppercase();
                }
                if !self.is_continuation(byte) {
                    self.column += 1;
                }
            }
        }
        out.push(byte);
    }

    /// How much input is complete, ends of file included: what a read takes, of lines in canonical mode.
    pub fn complete(&self) -> usize {
        self.complete
    }

    /// How many bytes a read can have now: of complete lines in canonical mode, of everything otherwise.
    pub fn available(&self) -> usize {
        self.input.iter().take(self.complete).filter(|cell| !cell.is_eof).count()
    }

    /// The number of bytes and the pause, in tenths of a second, that a read waits for: `VMIN` and `VTIME`.
    pub fn minimum_and_time(&self) -> (u8, u8) {
        if self.is_canonical() { (1, 0) } else { (self.termios.c_cc[VMIN], self.termios.c_cc[VTIME]) }
    }

    /// Whether poll(2) calls the terminal readable.
    pub fn is_readable(&self) -> bool {
        match self.minimum_and_time() {
            _ if self.is_canonical() => self.complete > 0,
            (minimum @ 1.., 0) => self.complete >= usize::from(minimum),
            _ => self.complete > 0,
        }
    }

    /// Reads: one line or less in canonical mode (none if there is no complete line), else whatever there is.
    pub fn read(&mut self, buf: &mut [u8]) -> Option<usize> {
        if self.complete == 0 {
            return None;
        }
        let canonical = self.is_canonical();
        let mut count = 0;
        while self.complete > 0 {
            let Some(&cell) = self.input.front() else { break };
            // The end of file behind a line that just fills the buffer is taken along, or it would read as an end.
            if count == buf.len() && !(cell.is_eof && canonical && count > 0) {
                break;
            }
            self.input.pop_front();
            self.complete -= 1;
            if !cell.is_eof {
                buf[count] = cell.byte;
                count += 1;
            }
            if canonical && cell.ends_line {
                break;
            }
        }
        Some(count)
    }

    /// Forgets everything that waits to be read.
    pub fn flush_input(&mut self) {
        self.input.clear();
        self.complete = 0;
        self.literal_next = false;
        self.erasing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(tty: &mut LineDiscipline, keys: &[u8]) -> (Received, Vec<u8>) {
        let received = tty.receive(keys);
        (received, tty.take_echo())
    }

    fn read(tty: &mut LineDiscipline) -> Option<Vec<u8>> {
        let mut buf = [0; 64];
        tty.read(&mut buf).map(|n| buf[..n].to_vec())
    }

    #[test]
    fn lines_come_whole_and_are_echoed() {
        let mut tty = LineDiscipline::default();
        assert_eq!(typed(&mut tty, b"ab").1, b"ab");
        assert_eq!(read(&mut tty), None);
        assert_eq!(typed(&mut tty, b"c\rrest").1, b"c\r\nrest");
        assert_eq!(read(&mut tty).unwrap(), b"abc\n");
        assert_eq!(read(&mut tty), None);
    }

    #[test]
    fn keys_edit_the_line() {
        let mut tty = LineDiscipline::default();
        assert_eq!(typed(&mut tty, b"ax\x7fb").1, b"ax\x08 \x08b");
        typed(&mut tty, b" word\x17c\n");
        assert_eq!(read(&mut tty).unwrap(), b"ab c\n");
        typed(&mut tty, b"gone\x15new\n");
        assert_eq!(read(&mut tty).unwrap(), b"new\n");
        typed(&mut tty, b"\x16\x03\n");
        assert_eq!(read(&mut tty).unwrap(), b"\x03\n");
    }

    #[test]
    fn end_of_file_reads_as_nothing() {
        let mut tty = LineDiscipline::default();
        typed(&mut tty, b"\x04");
        assert_eq!(read(&mut tty).unwrap(), b"");
        typed(&mut tty, b"tail\x04");
        assert_eq!(read(&mut tty).unwrap(), b"tail");
        assert_eq!(read(&mut tty), None);
    }

    #[test]
    fn keys_send_signals_and_flush() {
        let mut tty = LineDiscipline::default();
        let (received, echo) = typed(&mut tty, b"half\x03");
        assert_eq!(received.signals, [Signal::SIGINT]);
        assert!(received.flush_output && echo == b"^C");
        typed(&mut tty, b"\n");
        assert_eq!(read(&mut tty).unwrap(), b"\n");
        assert_eq!(typed(&mut tty, b"\x1a\x1c").0.signals, [Signal::SIGTSTP, Signal::SIGQUIT]);
    }

    #[test]
    fn raw_mode_passes_everything() {
        let mut tty = LineDiscipline::default();
        let mut modes = *tty.termios();
        modes.c_lflag = 0;
        modes.c_iflag = 0;
        modes.c_oflag = 0;
        tty.set_termios(modes);
        let (received, echo) = typed(&mut tty, b"\x03\r\x04");
        assert!(received.signals.is_empty() && echo.is_empty());
        assert_eq!(read(&mut tty).unwrap(), b"\x03\r\x04");
        assert_eq!(tty.process(b"\n"), b"\n");
    }

    #[test]
    fn output_gets_carriage_returns_and_stops() {
        let mut tty = LineDiscipline::default();
        assert_eq!(tty.process(b"a\nb"), b"a\r\nb");
        typed(&mut tty, b"\x13");
        assert!(tty.is_stopped());
        typed(&mut tty, b"\x11");
        assert!(!tty.is_stopped());
    }
}
