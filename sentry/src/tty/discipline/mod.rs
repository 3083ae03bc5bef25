//! The line discipline: what happens to bytes between a terminal and the programs on it (Linux's `n_tty`; termios(3)).
//!
//! It is plain data and logic: bytes go in, and what comes out is bytes for the other side and [`Signal`]s. Locks, waiting
//! and job control are its users' business.

mod editing;
mod output;
mod receive;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use amber_abi::Signal;
use amber_abi::termios::{InputModes, LocalModes, OutputModes, Termios, VMIN, VTIME};

/// Most bytes of input that wait for a reader, as on Linux.
const INPUT_LIMIT: usize = 4095;
/// The value of a control character that is switched off.
const DISABLED: u8 = 0;

/// A byte of input that waits to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    byte: u8,
    /// In canonical mode, the line ends with this byte.
    ends_line: bool,
    /// The end is an end-of-file character, which no reader of lines gets to see.
    is_eof: bool,
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
    /// Output is held.
    stopped: bool,
    /// It is held by tcflow(3), which no key undoes.
    stopped_by_program: bool,
    /// Whether output was last stopped or let go, until somebody asks.
    flow_change: Option<bool>,
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
            stopped_by_program: false,
            flow_change: None,
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

    /// Changes the modes. On the way to canonical mode, what is buffered becomes a line of its own; on the way from it,
    /// an end-of-file character becomes the byte 0 that stands for it.
    pub fn set_termios(&mut self, new: Termios) {
        let was = self.local_modes() & (LocalModes::ICANON | LocalModes::EXTPROC);
        let had_flow_keys = self.input_modes().contains(InputModes::IXON);
        self.termios = new;
        if self.local_modes() & (LocalModes::ICANON | LocalModes::EXTPROC) != was {
            self.erasing = false;
            self.literal_next = false;
            for cell in &mut self.input {
                (cell.ends_line, cell.is_eof) = (false, false);
            }
            if let Some(last) = self.input.back_mut() {
                last.ends_line = true;
            }
            self.complete = self.input.len();
        }
        if had_flow_keys && !self.input_modes().contains(InputModes::IXON) {
            self.start();
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

    /// Whether input comes in lines, and it is here that they are made.
    pub fn is_canonical(&self) -> bool {
        self.local(LocalModes::ICANON) && !self.local(LocalModes::EXTPROC)
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

    /// Holds output, or lets it go again: tcflow(3).
    pub fn set_stopped_by_program(&mut self, stopped: bool) {
        if stopped {
            self.stopped_by_program = true;
            self.stop();
        } else if std::mem::take(&mut self.stopped_by_program) {
            self.start();
        }
    }

    fn stop(&mut self) {
        if !self.stopped {
            self.stopped = true;
            self.flow_change = Some(true);
        }
    }

    fn start(&mut self) {
        if self.stopped && !self.stopped_by_program {
            self.stopped = false;
            self.flow_change = Some(false);
        }
    }

    /// Whether output was stopped (true) or let go (false) since this was last asked; the last counts.
    pub fn take_flow_change(&mut self) -> Option<bool> {
        self.flow_change.take()
    }

    /// How much input is complete, ends of file included: what a read takes, of lines in canonical mode.
    pub fn complete(&self) -> usize {
        self.complete
    }

    /// How many bytes its buffers take.
    pub fn kept_bytes(&self) -> usize {
        self.input.capacity() * size_of::<Cell>() + self.echo.capacity()
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
            if !cell.is_eof
                && let Some(place) = buf.get_mut(count)
            {
                *place = cell.byte;
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
