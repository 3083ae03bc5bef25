//! The ioctl(2) commands of terminals: see ioctl_tty(2).

use amber_abi::capability::Capability;
use amber_abi::ioctl::IoctlRequest as Io;
use amber_abi::open::OpenFlags;
use amber_abi::termios::{
    TCIOFF, TCION, TCOOFF, TCOON, Termio, Termios, Termios2, VSTART, VSTOP, Winsize, baud_code, baud_rate,
};
use amber_abi::{Errno, Signal};

use super::jobs;
use super::pty::{MasterFile, Pty, SlaveFile};
use crate::error::SysResult;
use crate::fs::{File, FileDescription};
use crate::task::TaskContext;

/// Commands of a master: most are those of its slave, without job control.
pub fn master(file: &MasterFile, ctx: &mut TaskContext, command: u32, argument: u64) -> SysResult {
    let pty = &file.pty;
    match Io::from_raw(command) {
        Io::TIOCGPTN => ctx.write_object(argument, &pty.index())?,
        Io::TIOCSPTLCK => pty.lock().locked = ctx.read_object::<i32>(argument)? != 0,
        Io::TIOCGPTLCK => {
            let locked = pty.lock().locked;
            ctx.write_object(argument, &i32::from(locked))?;
        }
        Io::TIOCPKT => {
            let on = ctx.read_object::<i32>(argument)? != 0;
            pty.lock().packet_mode = on;
        }
        Io::TIOCGPKT => {
            let on = pty.lock().packet_mode;
            ctx.write_object(argument, &i32::from(on))?;
        }
        Io::TIOCGPTPEER => return open_peer(pty, ctx, argument),
        Io::TIOCSIG => {
            let signal = i32::try_from(argument).ok().and_then(Signal::from_raw);
            let allowed = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP];
            pty.signal_foreground(signal.filter(|s| allowed.contains(s)).ok_or(Errno::EINVAL)?);
        }
        Io::TIOCGPGRP => {
            let foreground = pty.lock().foreground;
            ctx.write_object(argument, &foreground.unwrap_or(0))?;
        }
        Io::TIOCGSID => {
            let session = pty.lock().session;
            ctx.write_object(argument, &session.ok_or(Errno::ENOTTY)?)?;
        }
        Io::TIOCSPGRP => jobs::set_foreground(ctx, pty, argument)?,
        Io::TIOCSCTTY | Io::TIOCNOTTY => return Err(Errno::ENOTTY.into()),
        Io::FIONREAD => {
            let waiting = pty.lock().output_waiting() as i32;
            ctx.write_object(argument, &waiting)?;
        }
        Io::TIOCOUTQ => ctx.write_object(argument, &0i32)?,
        _ => return common(pty, ctx, command, argument),
    }
    Ok(0)
}

/// Commands of a slave.
pub fn slave(file: &SlaveFile, ctx: &mut TaskContext, command: u32, argument: u64) -> SysResult {
    let pty = file.pty.clone();
    if pty.lock().is_hung_up() {
        return Err(if command == Io::TIOCSPGRP.raw() { Errno::ENOTTY } else { Errno::EIO }.into());
    }
    let changes = [
        Io::TCSETS,
        Io::TCSETSW,
        Io::TCSETSF,
        Io::TCSETA,
        Io::TCSETAW,
        Io::TCSETAF,
        Io::TCSETS2,
        Io::TCSETSW2,
        Io::TCSETSF2,
        Io::TCXONC,
        Io::TCFLSH,
        Io::TCSBRK,
        Io::TCSBRKP,
        Io::TIOCSPGRP,
        Io::TIOCSETD,
    ];
    if changes.contains(&Io::from_raw(command)) {
        file.check_foreground(ctx, Signal::SIGTTOU)?;
    }
    match Io::from_raw(command) {
        Io::TIOCGPGRP => {
            jobs::require_controlling(ctx, &pty)?;
            let foreground = pty.lock().foreground;
            ctx.write_object(argument, &foreground.unwrap_or(0))?;
        }
        Io::TIOCSPGRP => {
            jobs::require_controlling(ctx, &pty)?;
            jobs::set_foreground(ctx, &pty, argument)?;
        }
        Io::TIOCGSID => {
            jobs::require_controlling(ctx, &pty)?;
            let session = pty.lock().session;
            ctx.write_object(argument, &session.ok_or(Errno::ENOTTY)?)?;
        }
        Io::TIOCSCTTY => jobs::acquire(ctx, &pty, argument == 1)?,
        Io::TIOCNOTTY => jobs::give_up(ctx, &pty)?,
        Io::FIONREAD => {
            let waiting = pty.lock().discipline.available() as i32;
            ctx.write_object(argument, &waiting)?;
        }
        Io::TIOCOUTQ => {
            let waiting = pty.lock().output_waiting() as i32;
            ctx.write_object(argument, &waiting)?;
        }
        // Typing into somebody else's terminal is switched off by default since Linux 6.2.
        Io::TIOCSTI => {
            if !ctx.credentials().has(Capability::CAP_SYS_ADMIN) {
                return Err(Errno::EIO.into());
            }
            let key = ctx.read_object::<u8>(argument)?;
            pty.type_key(key);
        }
        _ => return common(&pty, ctx, command, argument),
    }
    Ok(0)
}

fn common(pty: &Pty, ctx: &mut TaskContext, command: u32, argument: u64) -> SysResult {
    match Io::from_raw(command) {
        Io::TCGETS => ctx.write_object(argument, &termios(pty))?,
        Io::TCGETS2 => ctx.write_object(argument, &with_speeds(&termios(pty)))?,
        Io::TCGETA => ctx.write_object(argument, &short_form(&termios(pty)))?,
        Io::TCSETS | Io::TCSETSW | Io::TCSETSF => {
            let modes = ctx.read_object::<Termios>(argument)?;
            set_termios(pty, modes, command == Io::TCSETSF.raw())?;
        }
        Io::TCSETS2 | Io::TCSETSW2 | Io::TCSETSF2 => {
            let modes = without_speeds(&ctx.read_object::<Termios2>(argument)?);
            set_termios(pty, modes, command == Io::TCSETSF2.raw())?;
        }
        Io::TCSETA | Io::TCSETAW | Io::TCSETAF => {
            let modes = long_form(&ctx.read_object::<Termio>(argument)?, &termios(pty));
            set_termios(pty, modes, command == Io::TCSETAF.raw())?;
        }
        Io::TIOCGWINSZ => {
            let window = pty.lock().window;
            ctx.write_object(argument, &window)?;
        }
        Io::TIOCSWINSZ => pty.resize(ctx.read_object::<Winsize>(argument)?),
        Io::TCFLSH => pty.flush(argument)?,
        Io::TCXONC => control_flow(pty, argument)?,
        // A pseudo-terminal has no line on which a break could be sent, and its output is gone at once.
        Io::TCSBRK | Io::TCSBRKP | Io::TIOCSBRK | Io::TIOCCBRK => {}
        Io::TIOCEXCL => pty.lock().exclusive = true,
        Io::TIOCNXCL => pty.lock().exclusive = false,
        Io::TIOCGEXCL => {
            let exclusive = pty.lock().exclusive;
            ctx.write_object(argument, &i32::from(exclusive))?;
        }
        Io::TIOCGETD => ctx.write_object(argument, &0i32)?,
        Io::TIOCSETD => {
            if ctx.read_object::<i32>(argument)? != 0 {
                return Err(Errno::EINVAL.into());
            }
        }
        Io::TIOCGDEV => ctx.write_object(argument, &((super::pty::SLAVE_MAJOR << 8) | pty.index()))?,
        Io::TIOCGSOFTCAR => {
            let local = termios(pty).c_cflag & amber_abi::termios::ControlModes::CLOCAL.bits() != 0;
            ctx.write_object(argument, &i32::from(local))?;
        }
        Io::TIOCVHANGUP => {
            if !ctx.credentials().has(Capability::CAP_SYS_ADMIN) {
                return Err(Errno::EPERM.into());
            }
            pty.hang_up();
        }
        _ => return Err(Errno::ENOTTY.into()),
    }
    Ok(0)
}

fn termios(pty: &Pty) -> Termios {
    *pty.lock().discipline.termios()
}

fn set_termios(pty: &Pty, modes: Termios, flush: bool) -> Result<(), Errno> {
    if flush {
        pty.flush(0)?;
    }
    pty.lock().set_termios(modes);
    // What was half a line may be readable now, and held output may go on.
    pty.wake_both();
    Ok(())
}

fn with_speeds(modes: &Termios) -> Termios2 {
    let speed = baud_rate(modes.c_cflag).unwrap_or(0);
    Termios2 {
        c_iflag: modes.c_iflag,
        c_oflag: modes.c_oflag,
        c_cflag: modes.c_cflag,
        c_lflag: modes.c_lflag,
        c_line: modes.c_line,
        c_cc: modes.c_cc,
        c_ispeed: speed,
        c_ospeed: speed,
    }
}

fn without_speeds(modes: &Termios2) -> Termios {
    // A speed given as a number is kept as the code that stands for it, where there is one.
    let by_number = modes.c_cflag & amber_abi::termios::CBAUD == amber_abi::termios::BOTHER;
    let c_cflag = match baud_code(modes.c_ospeed).filter(|_| by_number) {
        Some(code) => modes.c_cflag & !amber_abi::termios::CBAUD | code,
        None => modes.c_cflag,
    };
    Termios {
        c_iflag: modes.c_iflag,
        c_oflag: modes.c_oflag,
        c_cflag,
        c_lflag: modes.c_lflag,
        c_line: modes.c_line,
        c_cc: modes.c_cc,
    }
}

fn short_form(modes: &Termios) -> Termio {
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

/// The short form leaves the upper halves of the modes and the later control characters as they were.
fn long_form(short: &Termio, before: &Termios) -> Termios {
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

/// tcflow(3).
fn control_flow(pty: &Pty, action: u64) -> Result<(), Errno> {
    let mut state = pty.lock();
    match u32::try_from(action).map_err(|_| Errno::EINVAL)? {
        TCOOFF => state.discipline.set_stopped(true),
        TCOON => state.discipline.set_stopped(false),
        // Suspending input means sending the other side its stop character.
        flow @ (TCIOFF | TCION) => {
            let key = if flow == TCIOFF { VSTOP } else { VSTART };
            let character = state.discipline.termios().c_cc[key];
            if character != 0 {
                state.send(character);
            }
        }
        _ => return Err(Errno::EINVAL),
    }
    drop(state);
    pty.wake_both();
    Ok(())
}

/// `TIOCGPTPEER`: opens the slave without its name.
fn open_peer(pty: &std::sync::Arc<Pty>, ctx: &TaskContext, flags: u64) -> SysResult {
    let flags = OpenFlags::from_bits_retain(flags as u32);
    let privileged = ctx.credentials().has(Capability::CAP_SYS_ADMIN);
    let (inode, path) = pty.slave_place().ok_or(Errno::EIO)?;
    let file = pty.open_slave(inode, privileged)?;
    if !flags.contains(OpenFlags::O_NOCTTY) {
        jobs::acquire_if_free(ctx, pty);
    }
    let description = FileDescription::new(file as std::sync::Arc<dyn File>, path, flags & !OpenFlags::O_CLOEXEC);
    let limit = ctx.group().limits().soft(amber_abi::task::Resource::RLIMIT_NOFILE);
    Ok(ctx.files().insert(description, flags.contains(OpenFlags::O_CLOEXEC), limit)? as u64)
}
