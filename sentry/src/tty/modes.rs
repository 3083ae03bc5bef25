//! The formats of terminal attributes: with numeric speeds (termios2), and the short one (termio).

use amber_abi::termios::{BOTHER, CBAUD, CS8, CSIZE, ControlModes, IBSHIFT, Termio, Termios, Termios2, baud_rate};

/// Speeds in bits per second. A pseudo-terminal only stores them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Speeds {
    /// The input speed.
    pub input: u32,
    /// The output speed.
    pub output: u32,
}

impl Speeds {
    /// The speeds that the control modes encode.
    pub(crate) fn of(modes: &Termios) -> Speeds {
        let output = baud_rate(modes.c_cflag).unwrap_or(0);
        Speeds { input: output, output }.named_by(modes.c_cflag)
    }

    /// The speeds that the control modes encode, with these for the code `BOTHER`.
    pub(crate) fn named_by(self, c_cflag: u32) -> Speeds {
        let output = if c_cflag & CBAUD == BOTHER { self.output } else { baud_rate(c_cflag).unwrap_or(0) };
        let input = match c_cflag >> IBSHIFT & CBAUD {
            0 => output,
            BOTHER => self.input,
            code => baud_rate(code).unwrap_or(0),
        };
        Speeds { input, output }
    }
}

/// The attributes that a pseudo-terminal accepts: eight bits without parity, with the receiver enabled.
pub(crate) fn real_modes(modes: &Termios) -> Termios {
    let parity = ControlModes::PARENB.bits();
    Termios { c_cflag: modes.c_cflag & !(CSIZE | parity) | CS8 | ControlModes::CREAD.bits(), ..*modes }
}

/// Converts attributes to the format with numeric speeds.
pub(crate) fn with_speeds(modes: &Termios, speeds: Speeds) -> Termios2 {
    Termios2 {
        c_iflag: modes.c_iflag,
        c_oflag: modes.c_oflag,
        c_cflag: modes.c_cflag,
        c_lflag: modes.c_lflag,
        c_line: modes.c_line,
        c_cc: modes.c_cc,
        c_ispeed: speeds.input,
        c_ospeed: speeds.output,
    }
}

/// Splits off the numeric speeds.
pub(crate) fn without_speeds(modes: &Termios2) -> (Termios, Speeds) {
    let plain = Termios {
        c_iflag: modes.c_iflag,
        c_oflag: modes.c_oflag,
        c_cflag: modes.c_cflag,
        c_lflag: modes.c_lflag,
        c_line: modes.c_line,
        c_cc: modes.c_cc,
    };
    (plain, Speeds { input: modes.c_ispeed, output: modes.c_ospeed })
}

/// Converts attributes to the short format.
pub(crate) fn short_form(modes: &Termios) -> Termio {
    let mut short = Termio {
        c_iflag: modes.c_iflag as u16,
        c_oflag: modes.c_oflag as u16,
        c_cflag: modes.c_cflag as u16,
        c_lflag: modes.c_lflag as u16,
        c_line: modes.c_line,
        ..Termio::default()
    };
    short.c_cc.copy_from_slice(&modes.c_cc[..8]);
    short
}

/// Converts from the short format. The upper halves of the modes and the later control characters stay unchanged.
pub(crate) fn long_form(short: &Termio, before: &Termios) -> Termios {
    let join = |high: u32, low: u16| high & 0xffff_0000 | u32::from(low);
    let mut modes = Termios {
        c_iflag: join(before.c_iflag, short.c_iflag),
        c_oflag: join(before.c_oflag, short.c_oflag),
        c_cflag: join(before.c_cflag, short.c_cflag),
        c_lflag: join(before.c_lflag, short.c_lflag),
        c_line: short.c_line,
        c_cc: before.c_cc,
    };
    modes.c_cc[..8].copy_from_slice(&short.c_cc);
    modes
}
