//! Terminals in `/proc`.

use amber_abi::errno::Errno;

use crate::fs::proc::parameters::{Parameter, fixed};
use crate::fs::pseudo::{Entry, Query};

/// `/proc/tty`.
pub(super) const ENTRIES: &[Entry] = &[Entry::directory(
    "tty",
    &[
        Entry::directory("driver", &[]),
        Entry::file("drivers", 0o444, drivers),
        Entry::directory("ldisc", &[]),
        Entry::file("ldiscs", 0o444, disciplines),
    ],
)];

/// The parameters of pseudo-terminals.
pub(super) const PARAMETERS: &[Parameter] =
    &[fixed("kernel/pty/max", |_| "4096".into()), fixed("kernel/pty/reserve", |_| "1024".into())];

fn drivers(_: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let text = "/dev/tty             /dev/tty        5       0 system:/dev/tty\n\
         /dev/console         /dev/console    5       1 system:console\n\
         /dev/ptmx            /dev/ptmx       5       2 system\n\
         pty_slave            /dev/pts      136 0-1048575 pty:slave\n\
         pty_master           /dev/ptm      128 0-1048575 pty:master\n";
    Ok(text.into())
}

fn disciplines(_: &Query<'_>) -> Result<Vec<u8>, Errno> {
    Ok(b"n_tty       0\n".to_vec())
}
