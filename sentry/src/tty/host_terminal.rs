//! The ioctl(2) commands of a host terminal that is a descriptor of the guest (ioctl_tty(2)).
//!
//! Attributes and window size are the host's. There is no job control: the guest's sessions and process groups do not
//! exist on the host.

use std::os::fd::BorrowedFd;

use amber_abi::errno::Errno;
use amber_abi::ioctl::IoctlRequest as Io;
use amber_abi::termios::{Termio, Termios, Termios2, Winsize};
use amber_host::terminal::{Control, When, control, modes, queued, set_modes, window_size};
use zerocopy::{FromBytes, IntoBytes};

use crate::error::SysResult;
use crate::tty::modes::{Speeds, long_form, short_form, with_speeds, without_speeds};
use crate::vfs::Caller;

/// Executes a command.
pub(super) fn ioctl(terminal: BorrowedFd<'_>, caller: &dyn Caller, command: u32, argument: u64) -> SysResult {
    let number = argument as i32;
    let done = match Io::from_raw(command) {
        Io::TCGETS => return Ok(caller.write_object(argument, &read(terminal)?.0).map(|()| 0)?),
        Io::TCGETS2 => {
            let (modes, speeds) = read(terminal)?;
            return Ok(caller.write_object(argument, &with_speeds(&modes, speeds)).map(|()| 0)?);
        }
        Io::TCGETA => return Ok(caller.write_object(argument, &short_form(&read(terminal)?.0)).map(|()| 0)?),
        Io::TCSETS | Io::TCSETSW | Io::TCSETSF => {
            let modes = caller.read_object::<Termios>(argument)?;
            let speeds = read(terminal)?.1.named_by(modes.c_cflag);
            write(terminal, &modes, speeds, when(command))
        }
        Io::TCSETS2 | Io::TCSETSW2 | Io::TCSETSF2 => {
            let (modes, speeds) = without_speeds(&caller.read_object::<Termios2>(argument)?);
            write(terminal, &modes, speeds, when(command))
        }
        Io::TCSETA | Io::TCSETAW | Io::TCSETAF => {
            let (modes, speeds) = read(terminal)?;
            write(terminal, &long_form(&caller.read_object::<Termio>(argument)?, &modes), speeds, when(command))
        }
        Io::TIOCGWINSZ => {
            let size = window_size(terminal).map_err(Errno::from_host)?;
            let size =
                Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: size.x_pixels, ws_ypixel: size.y_pixels };
            return Ok(caller.write_object(argument, &size).map(|()| 0)?);
        }
        Io::FIONREAD => {
            let (input, _) = queued(terminal).map_err(Errno::from_host)?;
            return Ok(caller.write_object(argument, &input).map(|()| 0)?);
        }
        Io::TIOCOUTQ => {
            let (_, output) = queued(terminal).map_err(Errno::from_host)?;
            return Ok(caller.write_object(argument, &output).map(|()| 0)?);
        }
        Io::TCFLSH => control(terminal, Control::Flush(number)),
        Io::TCXONC => control(terminal, Control::Flow(number)),
        Io::TCSBRK => control(terminal, Control::Drain(number)),
        _ => return Err(Errno::ENOTTY.here().into()),
    };
    Ok(done.map(|()| 0).map_err(Errno::from_host)?)
}

/// The time at which a command that sets attributes takes effect.
fn when(command: u32) -> When {
    match Io::from_raw(command) {
        Io::TCSETSW | Io::TCSETSW2 | Io::TCSETAW => When::Drained,
        Io::TCSETSF | Io::TCSETSF2 | Io::TCSETAF => When::Flushed,
        _ => When::Now,
    }
}

fn read(terminal: BorrowedFd<'_>) -> Result<(Termios, Speeds), Errno> {
    let bytes = modes(terminal).map_err(Errno::from_host)?;
    let modes = Termios2::read_from_bytes(&bytes).map_err(|_| Errno::EIO.here())?;
    Ok(without_speeds(&modes))
}

fn write(terminal: BorrowedFd<'_>, modes: &Termios, speeds: Speeds, when: When) -> std::io::Result<()> {
    let mut bytes = [0; amber_host::terminal::MODES_BYTES];
    bytes.copy_from_slice(with_speeds(modes, speeds).as_bytes());
    set_modes(terminal, &bytes, when)
}
