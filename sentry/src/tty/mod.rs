//! Terminals: the line discipline, pseudo-terminal pairs, and what ties them to sessions (tty(4), pty(7), termios(3)).

mod discipline;

pub use discipline::{LineDiscipline, Received};
