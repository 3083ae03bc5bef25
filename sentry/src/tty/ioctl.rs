//! The ioctl(2) commands of terminals (ioctl_tty(2)).

use amber_abi::capability::Capability;
use amber_abi::ioctl::IoctlRequest as Io;
use amber_abi::open::OpenFlags;
use amber_abi::termios::{TCIOFF, TCION, TCOOFF, TCOON, Termio, Termios, Termios2, VSTART, VSTOP, Winsize};
use amber_abi::{Errno, Signal};

use super::jobs;
use super::master::MasterFile;
use super::modes::{Speeds, long_form, short_form, with_speeds, without_speeds};
use super::pty::Pty;
use super::slave::SlaveFile;
use crate::error::{SysError, SysResult};
use crate::task::{ControllingTerminal, TaskContext};
use crate::vfs::{File, FileDescription};

/// Commands of a master: mostly those of its slave, without job control.
pub(super) fn master(file: &MasterFile, ctx: &TaskContext, command: u32, argument: u64) -> SysResult {
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
            let mut state = pty.lock();
            if on && !state.packet_mode {
                state.packet_status = 0;
            }
            state.packet_mode = on;
        }
        Io::TIOCGPKT => {
            let on = pty.lock().packet_mode;
            ctx.write_object(argument, &i32::from(on))?;
        }
        Io::TIOCGPTPEER => return open_peer(pty, ctx, argument),
        Io::TIOCSIG => {
            let signal = i32::try_from(argument).ok().and_then(Signal::from_raw);
            let allowed = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP];
            pty.signal_foreground(signal.filter(|s| allowed.contains(s)).ok_or_else(|| Errno::EINVAL.here())?);
        }
        Io::TIOCGPGRP => {
            let foreground = pty.lock().foreground;
            ctx.write_object(argument, &foreground.unwrap_or(0))?;
        }
        Io::TIOCGSID => {
            let session = pty.lock().session;
            ctx.write_object(argument, &session.ok_or_else(|| Errno::ENOTTY.here())?)?;
        }
        Io::TIOCSPGRP => jobs::set_foreground(ctx, pty, argument)?,
        Io::TIOCSCTTY => jobs::acquire(ctx, pty, argument == 1)?,
        Io::TIOCNOTTY => return Err(Errno::ENOTTY.here().into()),
        Io::TCFLSH => flush_from_master(pty, argument)?,
        Io::FIONREAD => {
            let waiting = pty.lock().output.len() as i32;
            ctx.write_object(argument, &waiting)?;
        }
        _ => return common(pty, ctx, command, argument),
    }
    Ok(0)
}

/// Commands of a slave.
pub(super) fn slave(file: &SlaveFile, ctx: &TaskContext, command: u32, argument: u64) -> SysResult {
    let pty = file.pty.clone();
    if file.is_hung_up() {
        return Err(if command == Io::TIOCSPGRP.raw() { Errno::ENOTTY.here() } else { Errno::EIO.here() }.into());
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
        Io::TIOCSBRK,
        Io::TIOCCBRK,
        Io::TIOCSPGRP,
        Io::TIOCSETD,
    ];
    if changes.contains(&Io::from_raw(command)) {
        match file.check_foreground(ctx, Signal::SIGTTOU) {
            Err(SysError::Errno(Errno::EIO)) if command == Io::TIOCSPGRP.raw() => {
                return Err(Errno::ENOTTY.here().into());
            }
            answer => answer?,
        }
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
            ctx.write_object(argument, &session.ok_or_else(|| Errno::ENOTTY.here())?)?;
        }
        Io::TIOCSCTTY => jobs::acquire(ctx, &pty, argument == 1)?,
        Io::TIOCNOTTY => jobs::give_up(ctx, &pty)?,
        Io::FIONREAD => {
            let waiting = pty.lock().discipline.available() as i32;
            ctx.write_object(argument, &waiting)?;
        }
        Io::TCFLSH => flush(&pty, argument)?,
        Io::TIOCGPTPEER => return Err(Errno::EIO.here().into()),
        // Injecting input is disabled by default since Linux 6.2.
        Io::TIOCSTI => {
            if !ctx.credentials().has(Capability::CAP_SYS_ADMIN) {
                return Err(Errno::EIO.here().into());
            }
            let key = ctx.read_object::<u8>(argument)?;
            pty.type_key(key);
        }
        _ => return common(&pty, ctx, command, argument),
    }
    Ok(0)
}

fn common(pty: &Pty, ctx: &TaskContext, command: u32, argument: u64) -> SysResult {
    match Io::from_raw(command) {
        Io::TCGETS => ctx.write_object(argument, &termios(pty))?,
        Io::TCGETS2 => {
            let speeds = pty.lock().speeds;
            ctx.write_object(argument, &with_speeds(&termios(pty), speeds))?;
        }
        Io::TCGETA => ctx.write_object(argument, &short_form(&termios(pty)))?,
        Io::TCSETS | Io::TCSETSW | Io::TCSETSF => {
            let modes = ctx.read_object::<Termios>(argument)?;
            set_termios(pty, modes, None, command == Io::TCSETSF.raw());
        }
        Io::TCSETS2 | Io::TCSETSW2 | Io::TCSETSF2 => {
            let (modes, speeds) = without_speeds(&ctx.read_object::<Termios2>(argument)?);
            set_termios(pty, modes, Some(speeds), command == Io::TCSETSF2.raw());
        }
        Io::TCSETA | Io::TCSETAW | Io::TCSETAF => {
            let modes = long_form(&ctx.read_object::<Termio>(argument)?, &termios(pty));
            set_termios(pty, modes, None, command == Io::TCSETAF.raw());
        }
        Io::TIOCGWINSZ => {
            let window = pty.lock().window;
            ctx.write_object(argument, &window)?;
        }
        Io::TIOCSWINSZ => pty.resize(ctx.read_object::<Winsize>(argument)?),
        // Output is passed to the other side at once.
        Io::TIOCOUTQ => ctx.write_object(argument, &0i32)?,
        Io::TCXONC => control_flow(pty, argument)?,
        // A pseudo-terminal cannot send a break, and its output is never pending.
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
                return Err(Errno::EINVAL.here().into());
            }
        }
        Io::TIOCGDEV => ctx.write_object(argument, &ControllingTerminal::device_number(pty))?,
        Io::TIOCGSOFTCAR => {
            let local = termios(pty).c_cflag & amber_abi::termios::ControlModes::CLOCAL.bits() != 0;
            ctx.write_object(argument, &i32::from(local))?;
        }
        Io::TIOCVHANGUP => {
            if !ctx.credentials().has(Capability::CAP_SYS_ADMIN) {
                return Err(Errno::EPERM.here().into());
            }
            pty.hang_up();
        }
        _ => return Err(Errno::ENOTTY.here().into()),
    }
    Ok(0)
}

fn termios(pty: &Pty) -> Termios {
    *pty.lock().discipline.termios()
}

fn set_termios(pty: &Pty, modes: Termios, speeds: Option<Speeds>, flush: bool) {
    let mut state = pty.lock();
    let flushed = if flush { Some(state.flush_input()) } else { None };
    let speeds = speeds.unwrap_or(state.speeds).named_by(modes.c_cflag);
    // A partial line may have become readable, and stopped output may restart.
    let changed = state.set_termios(modes, speeds);
    drop(state);
    flushed.into_iter().chain([changed]).for_each(|fed| pty.report(fed));
}

/// Discards data (tcflush(3)): 0 for input, 1 for output, 2 for both.
fn flush(pty: &Pty, queue: u64) -> Result<(), Errno> {
    let (input, output) = directions(queue)?;
    let mut state = pty.lock();
    let fed = if input { Some(state.flush_input()) } else { None };
    if output {
        state.flush_output();
    }
    drop(state);
    fed.into_iter().for_each(|fed| pty.report(fed));
    pty.wake_both();
    Ok(())
}

/// Like [`flush`] for the master, whose input is the slave's output. Its own output is passed to the slave at once.
fn flush_from_master(pty: &Pty, queue: u64) -> Result<(), Errno> {
    let (input, _) = directions(queue)?;
    if input {
        pty.lock().output.clear();
        pty.wake_both();
    }
    Ok(())
}

fn directions(queue: u64) -> Result<(bool, bool), Errno> {
    match queue {
        0 => Ok((true, false)),
        1 => Ok((false, true)),
        2 => Ok((true, true)),
        _ => Err(Errno::EINVAL.here()),
    }
}

/// Stops or restarts data (tcflow(3)).
fn control_flow(pty: &Pty, action: u64) -> Result<(), Errno> {
    let mut state = pty.lock();
    let mut fed = None;
    match u32::try_from(action).map_err(|_| Errno::EINVAL.here())? {
        TCOOFF => fed = Some(state.set_stopped_by_program(true)),
        TCOON => fed = Some(state.set_stopped_by_program(false)),
        // Stopping input sends the stop character to the other side.
        flow @ (TCIOFF | TCION) => {
            let keys = state.discipline.termios().c_cc;
            let character = if flow == TCIOFF { keys[VSTOP] } else { keys[VSTART] };
            if character != 0 {
                state.send(character);
            }
        }
        _ => return Err(Errno::EINVAL.here()),
    }
    drop(state);
    fed.into_iter().for_each(|fed| pty.report(fed));
    pty.wake_both();
    Ok(())
}

/// `TIOCGPTPEER`: opens the slave without using its path.
fn open_peer(pty: &std::sync::Arc<Pty>, ctx: &TaskContext, flags: u64) -> SysResult {
    let flags = OpenFlags::from_bits_retain(flags as u32);
    let privileged = ctx.credentials().has(Capability::CAP_SYS_ADMIN);
    let (inode, path) = pty.slave_place().ok_or_else(|| Errno::EIO.here())?;
    let file = pty.open_slave(inode, privileged)?;
    if !flags.contains(OpenFlags::O_NOCTTY) {
        jobs::acquire_if_free(ctx, pty);
    }
    let description =
        FileDescription::new(&ctx.kernel().vfs, file as std::sync::Arc<dyn File>, path, flags & !OpenFlags::O_CLOEXEC);
    let limit = ctx.group().limits().soft(amber_abi::task::Resource::RLIMIT_NOFILE);
    Ok(ctx.files().insert(description, flags.contains(OpenFlags::O_CLOEXEC), limit)? as u64)
}
