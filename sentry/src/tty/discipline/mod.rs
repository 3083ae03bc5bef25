//! The line discipline: processing of bytes between a terminal and its programs (Linux' `n_tty`; termios(3)).
//!
//! It has no side effects: its results are bytes for the other side and [`Signal`]s. Its users handle locks, waiting
//! and job control.

mod editing;
mod output;
mod receive;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use amber_abi::Signal;
use amber_abi::termios::{InputModes, LocalModes, OutputModes, Termios, VMIN, VTIME};

/// The maximum number of unread bytes of input, as on Linux.
const INPUT_LIMIT: usize = 4095;
/// The value of a disabled control character.
const DISABLED: u8 = 0;

/// An unread byte of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    byte: u8,
    /// Whether the byte ends a line in canonical mode.
    ends_line: bool,
    /// Whether it is an end-of-file character, which canonical reads do not return.
    is_eof: bool,
}

/// The state of one terminal's line discipline.
pub(crate) struct LineDiscipline {
    termios: Termios,
    input: VecDeque<Cell>,
    /// The number of cells in complete lines; the following ones can be edited.
    complete: usize,
    /// Whether the next character is taken literally (`VLNEXT`).
    literal_next: bool,
    /// Whether characters are being erased in `ECHOPRT` mode.
    erasing: bool,
    /// The column of the cursor, for tabs.
    column: usize,
    /// The column of the cursor at the start of the line being edited.
    line_column: usize,
    /// Whether output is stopped.
    stopped: bool,
    /// Whether tcflow(3) stopped it, so that no key restarts it.
    stopped_by_program: bool,
    /// Whether output was last stopped or restarted, until this is reported.
    flow_change: Option<bool>,
    /// Echo that is not yet on the terminal.
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

/// The effects of received bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// Signals for the foreground process group, in order.
    pub signals: Vec<Signal>,
    /// Whether a signal key flushed pending output.
    pub flush_output: bool,
    /// The number of bytes taken; the others must be passed again when there is room.
    pub taken: usize,
}

impl LineDiscipline {
    /// The terminal attributes.
    pub(super) fn termios(&self) -> &Termios {
        &self.termios
    }

    /// Sets the terminal attributes. A change to canonical mode makes the buffered input a line; a change from it turns
    /// end-of-file characters into zero bytes.
    pub(super) fn set_termios(&mut self, new: Termios) {
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

    /// Whether the line discipline splits input into lines.
    pub(super) fn is_canonical(&self) -> bool {
        self.local(LocalModes::ICANON) && !self.local(LocalModes::EXTPROC)
    }

    /// Whether a background write stops the writer (`TOSTOP`).
    pub(super) fn stops_background_output(&self) -> bool {
        self.local(LocalModes::TOSTOP)
    }

    fn is_key(&self, byte: u8, key: usize) -> bool {
        byte != DISABLED && self.termios.c_cc.get(key) == Some(&byte)
    }

    fn is_continuation(&self, byte: u8) -> bool {
        self.input_modes().contains(InputModes::IUTF8) && byte & 0xc0 == 0x80
    }

    /// Whether the stop character or tcflow(3) has stopped output.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Stops or restarts output (tcflow(3)).
    pub(super) fn set_stopped_by_program(&mut self, stopped: bool) {
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

    /// Whether output was stopped (true) or restarted (false) last, if it was since the last call.
    pub(super) fn take_flow_change(&mut self) -> Option<bool> {
        self.flow_change.take()
    }

    /// The number of complete bytes of input, including end-of-file characters; in canonical mode those of complete
    /// lines.
    pub(super) fn complete(&self) -> usize {
        self.complete
    }

    /// The size of the buffers in bytes.
    pub(super) fn kept_bytes(&self) -> usize {
        self.input.capacity() * size_of::<Cell>() + self.echo.capacity()
    }

    /// The number of bytes that can be read: in canonical mode those of complete lines.
    pub(super) fn available(&self) -> usize {
        self.input.iter().take(self.complete).filter(|cell| !cell.is_eof).count()
    }

    /// The number of bytes a read waits for, and the timeout in tenths of a second (`VMIN` and `VTIME`).
    pub(super) fn minimum_and_time(&self) -> (u8, u8) {
        if self.is_canonical() { (1, 0) } else { (self.termios.c_cc[VMIN], self.termios.c_cc[VTIME]) }
    }

    /// Whether poll(2) reports the terminal as readable.
    pub(super) fn is_readable(&self) -> bool {
        match self.minimum_and_time() {
            (minimum @ 1.., 0) => self.complete >= usize::from(minimum),
            _ => self.complete > 0,
        }
    }

    /// Reads at most one line in canonical mode (none if no line is complete), else the available input.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> Option<usize> {
        if self.complete == 0 {
            return None;
        }
        let canonical = self.is_canonical();
        let mut count = 0;
        while self.complete > 0 {
            let Some(&cell) = self.input.front() else { break };
            // An end-of-file after a line that exactly fills the buffer is consumed, so that the next read does not
            // return 0.
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

    /// Discards unread input.
    pub(super) fn flush_input(&mut self) {
        self.input.clear();
        self.complete = 0;
        self.literal_next = false;
        self.erasing = false;
    }
}
