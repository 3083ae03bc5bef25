//! Pseudo-terminal pairs: see pty(7).

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use amber_abi::poll::PollEvents;
use amber_abi::termios::{ControlModes, Termios, Winsize};
use amber_abi::{Errno, Signal};

use super::discipline::LineDiscipline;
use crate::error::{SysError, SysResult};
use crate::fs::sigio::{Happening, SignalIo};
use crate::fs::{File, Inode, Path};
use crate::kernel::Kernel;
use crate::sync::{Mutex, MutexGuard, Rank};
use crate::task::{ControllingTerminal, TaskContext};
use crate::wait::WaitQueue;

/// Output that waits for the master's reader; a writer waits beyond this many bytes.
const OUTPUT_LIMIT: usize = 16 << 10;
/// Echo nobody reads is dropped beyond this many bytes.
const ECHO_LIMIT: usize = 64 << 10;
/// Major device number of the slaves.
pub const SLAVE_MAJOR: u32 = 136;

/// What packet mode tells the master, besides data (ioctl_tty(2), `TIOCPKT`).
mod packet {
    pub const DATA: u8 = 0;
    pub const FLUSH_READ: u8 = 1;
    pub const FLUSH_WRITE: u8 = 2;
    pub const STOP: u8 = 4;
    pub const START: u8 = 8;
    pub const NO_STOP: u8 = 16;
    pub const DO_STOP: u8 = 32;
}

/// What gave a pair its number and shows its slave.
pub trait PtyHome: Send + Sync {
    /// The slave cannot be opened any more.
    fn master_closed(&self, index: u32);

    /// Both sides are closed: the number is free.
    fn released(&self, index: u32);
}

/// A pair: whatever is written to the master is typed at the slave.
pub struct Pty {
    me: Weak<Pty>,
    kernel: Weak<Kernel>,
    index: u32,
    home: Option<Weak<dyn PtyHome>>,
    state: Mutex<State>,
    master: WaitQueue,
    slave: WaitQueue,
}

/// The state of a pair.
pub(super) struct State {
    pub discipline: LineDiscipline,
    /// Output and echo on the way to the master.
    output: VecDeque<u8>,
    pub window: Winsize,
    /// The session whose controlling terminal the slave is.
    pub session: Option<i32>,
    /// The process group in the foreground.
    pub foreground: Option<i32>,
    slaves: usize,
    was_opened: bool,
    master_closed: bool,
    /// `unlockpt` has not been called: the slave cannot be opened.
    pub locked: bool,
    /// Only the privileged may open the slave again (`TIOCEXCL`).
    pub exclusive: bool,
    pub packet_mode: bool,
    packet_status: u8,
    place: Option<(Weak<dyn Inode>, Option<Path>)>,
}

impl Pty {
    /// A new pair with this number, which `home` gave it.
    pub fn new(kernel: &Arc<Kernel>, index: u32, home: Option<Weak<dyn PtyHome>>) -> Arc<Self> {
        let mut discipline = LineDiscipline::default();
        let mut modes = Termios::INITIAL;
        modes.c_cflag &= !ControlModes::HUPCL.bits();
        discipline.set_termios(modes);
        Arc::new_cyclic(|me| Pty {
            me: me.clone(),
            kernel: Arc::downgrade(kernel),
            index,
            home,
            state: Mutex::new(
                Rank::Terminal,
                State {
                    discipline,
                    output: VecDeque::new(),
                    window: Winsize::default(),
                    session: None,
                    foreground: None,
                    slaves: 0,
                    was_opened: false,
                    master_closed: false,
                    locked: true,
                    exclusive: false,
                    packet_mode: false,
                    packet_status: 0,
                    place: None,
                },
            ),
            master: WaitQueue::new(),
            slave: WaitQueue::new(),
        })
    }

    /// Its number under `/dev/pts`.
    pub fn index(&self) -> u32 {
        self.index
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn kernel(&self) -> Result<Arc<Kernel>, Errno> {
        self.kernel.upgrade().ok_or(Errno::EIO)
    }

    /// The pair as a session holds it.
    pub fn terminal(&self) -> Option<Arc<dyn ControllingTerminal>> {
        self.me.upgrade().map(|pty| pty as Arc<dyn ControllingTerminal>)
    }

    /// The pair itself, to be kept.
    pub fn this(&self) -> Option<Arc<Pty>> {
        self.me.upgrade()
    }

    fn home(&self) -> Option<Arc<dyn PtyHome>> {
        self.home.as_ref()?.upgrade()
    }

    /// Whether `terminal` is this pair.
    pub fn is(&self, terminal: &Arc<dyn ControllingTerminal>) -> bool {
        terminal.as_any().downcast_ref::<Pty>().is_some_and(|other| std::ptr::eq(self, other))
    }

    /// Opens the master; done once, by `/dev/ptmx`.
    pub fn open_master(self: &Arc<Self>, inode: Arc<dyn Inode>) -> Arc<MasterFile> {
        Arc::new(MasterFile { pty: self.clone(), inode })
    }

    /// Opens the slave.
    ///
    /// # Errors
    /// `EIO` while it is locked or when the master is gone; `EBUSY` in exclusive mode without CAP_SYS_ADMIN.
    pub fn open_slave(self: &Arc<Self>, inode: Arc<dyn Inode>, privileged: bool) -> Result<Arc<SlaveFile>, Errno> {
        let mut state = self.lock();
        if state.locked || state.master_closed {
            return Err(Errno::EIO);
        }
        if state.exclusive && !privileged {
            return Err(Errno::EBUSY);
        }
        state.slaves += 1;
        state.was_opened = true;
        drop(state);
        Ok(Arc::new(SlaveFile { pty: self.clone(), inode }))
    }

    fn wake_master(&self) {
        self.master.notify(PollEvents::POLLIN | PollEvents::POLLRDNORM | PollEvents::POLLPRI | PollEvents::POLLOUT);
    }

    pub(super) fn wake_slave(&self) {
        self.slave.notify(PollEvents::POLLIN | PollEvents::POLLRDNORM | PollEvents::POLLOUT | PollEvents::POLLWRNORM);
    }

    pub(super) fn wake_both(&self) {
        self.wake_master();
        self.wake_slave();
    }

    /// Sends a signal to the foreground process group.
    pub(super) fn signal_foreground(&self, signal: Signal) {
        // The process table comes before the terminal in the lock order: look first, then send.
        let foreground = self.lock().foreground;
        if let (Some(pgid), Ok(kernel)) = (foreground, self.kernel()) {
            kernel.signal_process_group(pgid, signal);
        }
    }

    /// Takes what is typed at the terminal.
    fn type_keys(&self, keys: &[u8]) -> Result<usize, Errno> {
        let mut state = self.lock();
        let was_stopped = state.discipline.is_stopped();
        let (complete, shown) = (state.discipline.complete(), state.output.len());
        let received = state.discipline.receive(keys);
        if received.flush_output {
            state.output.clear();
            state.note(packet::FLUSH_WRITE | packet::FLUSH_READ);
        }
        state.show_echo();
        match (was_stopped, state.discipline.is_stopped()) {
            (false, true) => state.note(packet::STOP),
            (true, false) => state.note(packet::START),
            _ => {}
        }
        let (grown, echoed) = (state.discipline.complete() > complete, state.output.len() > shown);
        drop(state);
        for signal in &received.signals {
            self.signal_foreground(*signal);
        }
        self.wake_both();
        if grown {
            self.slave.signals().tell(Happening::Input);
        }
        if echoed {
            self.master.signals().tell(Happening::Input);
        }
        if received.taken < keys.len() {
            self.master.signals().note_full();
        }
        if received.taken == 0 && !keys.is_empty() { Err(Errno::EAGAIN) } else { Ok(received.taken) }
    }

    fn read_output(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        let mut state = self.lock();
        let mut used = 0;
        if state.packet_mode {
            let Some(first) = buf.first_mut() else { return Ok(0) };
            let status = std::mem::take(&mut state.packet_status);
            if status != 0 {
                *first = status;
                return Ok(1);
            }
            *first = packet::DATA;
            used = 1;
        }
        if state.output.is_empty() {
            let hung_up = state.was_opened && state.slaves == 0;
            return Err(if hung_up { Errno::EIO } else { Errno::EAGAIN });
        }
        let room = &mut buf[used..];
        let count = room.len().min(state.output.len());
        for (to, from) in room.iter_mut().zip(state.output.drain(..count)) {
            *to = from;
        }
        drop(state);
        self.wake_slave();
        self.slave.signals().tell_room();
        Ok(used + count)
    }

    fn write_output(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let mut state = self.lock();
        if state.master_closed {
            return Err(Errno::EIO);
        }
        if state.discipline.is_stopped() || (state.output.len() >= OUTPUT_LIMIT && !bytes.is_empty()) {
            self.slave.signals().note_full();
            return Err(Errno::EAGAIN);
        }
        let room = OUTPUT_LIMIT - state.output.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        let processed = state.discipline.process(taken);
        state.output.extend(processed);
        let seen = !state.output.is_empty();
        drop(state);
        self.wake_master();
        if seen {
            self.master.signals().tell(Happening::Input);
        }
        if taken.len() < bytes.len() {
            self.slave.signals().note_full();
        }
        Ok(taken.len())
    }

    /// The hang-up of the slave: its session loses the terminal, whose leader is told.
    pub(super) fn hang_up(&self) {
        let session = {
            let mut state = self.lock();
            state.foreground = None;
            state.session.take()
        };
        if let (Some(sid), Ok(kernel)) = (session, self.kernel()) {
            kernel.hang_up_session(sid);
        }
        self.wake_both();
    }

    /// Types one key, as `TIOCSTI` does.
    pub(super) fn type_key(&self, key: u8) {
        // A full input buffer loses the key, as on Linux.
        let _ = self.type_keys(&[key]);
    }

    /// Sets the window's size and tells the foreground if it is another.
    pub fn resize(&self, window: Winsize) {
        let before = std::mem::replace(&mut self.lock().window, window);
        if before != window {
            self.signal_foreground(Signal::SIGWINCH);
        }
    }

    /// Notes where the slave's node lies, for `TIOCGPTPEER`.
    pub fn set_slave_place(&self, inode: &Arc<dyn Inode>, path: Option<Path>) {
        self.lock().place = Some((Arc::downgrade(inode), path));
    }

    /// The slave's node.
    pub(super) fn slave_place(&self) -> Option<(Arc<dyn Inode>, Option<Path>)> {
        let (inode, path) = self.lock().place.clone()?;
        Some((inode.upgrade()?, path))
    }

    /// tcflush(3): 0 for input, 1 for output, 2 for both.
    pub(super) fn flush(&self, queue: u64) -> Result<(), Errno> {
        let mut state = self.lock();
        let (input, output) = match queue {
            0 => (true, false),
            1 => (false, true),
            2 => (true, true),
            _ => return Err(Errno::EINVAL),
        };
        if input {
            state.discipline.flush_input();
            state.note(packet::FLUSH_READ);
        }
        if output {
            state.output.clear();
            state.note(packet::FLUSH_WRITE);
        }
        drop(state);
        self.wake_both();
        Ok(())
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        if let Some(home) = self.home() {
            home.released(self.index);
        }
    }
}

impl State {
    /// Puts echo on its way to the master.
    pub fn show_echo(&mut self) {
        let echo = self.discipline.take_echo();
        if self.output.len() < ECHO_LIMIT {
            self.output.extend(echo);
        }
    }

    /// Sends a byte to the master, past output processing.
    pub fn send(&mut self, byte: u8) {
        self.output.push_back(byte);
    }

    /// Notes something for a master in packet mode.
    pub fn note(&mut self, status: u8) {
        if self.packet_mode {
            self.packet_status |= status;
        }
    }

    /// Changes the modes, and tells a master in packet mode when flow control changes.
    pub fn set_termios(&mut self, modes: Termios) {
        use amber_abi::termios::InputModes;
        let flow = |t: &Termios| t.c_iflag & InputModes::IXON.bits() != 0;
        let (before, after) = (flow(self.discipline.termios()), flow(&modes));
        self.discipline.set_termios(modes);
        match (before, after) {
            (false, true) => self.note(packet::DO_STOP),
            (true, false) => self.note(packet::NO_STOP),
            _ => {}
        }
    }

    /// Bytes on the way to the master.
    pub fn output_waiting(&self) -> usize {
        self.output.len()
    }

    /// Whether the master is gone.
    pub fn is_hung_up(&self) -> bool {
        self.master_closed
    }
}

impl ControllingTerminal for Pty {
    fn release(&self) -> Option<i32> {
        let mut state = self.lock();
        state.session = None;
        state.foreground.take()
    }

    fn device_number(&self) -> u32 {
        // As /proc/PID/stat has it: minor bits 31..20 and 7..0, major bits 15..8.
        (SLAVE_MAJOR << 8) | (self.index & 0xff) | ((self.index & 0xfff00) << 12)
    }

    fn foreground(&self) -> Option<i32> {
        self.lock().foreground
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The master's open file. Closing it hangs the slave up.
pub struct MasterFile {
    pub(super) pty: Arc<Pty>,
    inode: Arc<dyn Inode>,
}

impl MasterFile {
    /// The pair.
    pub fn pty(&self) -> &Arc<Pty> {
        &self.pty
    }

    /// Reads what the slave's programs wrote; for a console, whose master is held by the sandbox's operator.
    pub fn read_screen(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        self.pty.read_output(buf)
    }
}

impl File for MasterFile {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_at(&self, buf: &mut [u8], _: u64) -> Result<usize, Errno> {
        self.pty.read_output(buf)
    }

    fn write_at(&self, buf: &[u8], _: u64) -> Result<usize, Errno> {
        self.pty.type_keys(buf)
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn poll(&self) -> PollEvents {
        let state = self.pty.lock();
        let mut events = PollEvents::POLLOUT | PollEvents::POLLWRNORM;
        if !state.output.is_empty() || state.packet_status != 0 {
            events |= PollEvents::POLLIN | PollEvents::POLLRDNORM;
        }
        if state.packet_status != 0 {
            events |= PollEvents::POLLPRI;
        }
        if state.was_opened && state.slaves == 0 {
            events |= PollEvents::POLLHUP;
        }
        events
    }

    fn signal_io(&self) -> SignalIo {
        SignalIo::Terminal(None)
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.pty.master)
    }

    fn ioctl(&self, ctx: &mut TaskContext, command: u32, argument: u64) -> SysResult {
        super::ioctl::master(self, ctx, command, argument)
    }

    fn fdinfo(&self) -> String {
        format!("tty-index:\t{}\n", self.pty.index)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for MasterFile {
    fn drop(&mut self) {
        self.pty.lock().master_closed = true;
        if let Some(home) = self.pty.home() {
            home.master_closed(self.pty.index);
        }
        self.pty.hang_up();
        self.pty.slave.notify_all();
    }
}

/// An open file of the slave: the terminal as programs see it.
pub struct SlaveFile {
    pub(super) pty: Arc<Pty>,
    inode: Arc<dyn Inode>,
}

impl SlaveFile {
    /// The pair.
    pub fn pty(&self) -> &Arc<Pty> {
        &self.pty
    }

    /// Stops a task of a background process group that reads, writes or changes its controlling terminal.
    pub(super) fn check_foreground(&self, ctx: &TaskContext, signal: Signal) -> Result<(), SysError> {
        let (pgid, sid) = ctx.group_and_session();
        let background = {
            let state = self.pty.lock();
            state.session == Some(sid) && state.foreground.is_some_and(|foreground| foreground != pgid)
        };
        if background { ctx.stop_background(signal) } else { Ok(()) }
    }
}

impl File for SlaveFile {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn admit(&self, ctx: &TaskContext, write: bool) -> Result<(), SysError> {
        if !write {
            return self.check_foreground(ctx, Signal::SIGTTIN);
        }
        let stops = self.pty.lock().discipline.stops_background_output();
        if stops { self.check_foreground(ctx, Signal::SIGTTOU) } else { Ok(()) }
    }

    fn read_at(&self, buf: &mut [u8], _: u64) -> Result<usize, Errno> {
        let mut state = self.pty.lock();
        let (minimum, time) = state.discipline.minimum_and_time();
        let enough = usize::from(minimum).min(buf.len());
        if (state.discipline.is_canonical() || time > 0 || state.discipline.available() >= enough)
            && let Some(count) = state.discipline.read(buf)
        {
            drop(state);
            // There is room for what is typed again.
            self.pty.wake_master();
            self.pty.master.signals().tell_room();
            return Ok(count);
        }
        if state.master_closed || (minimum == 0 && time == 0) || buf.is_empty() { Ok(0) } else { Err(Errno::EAGAIN) }
    }

    fn read_timeout(&self) -> Option<std::time::Duration> {
        let (minimum, time) = self.pty.lock().discipline.minimum_and_time();
        (minimum == 0 && time > 0).then(|| std::time::Duration::from_millis(u64::from(time) * 100))
    }

    fn write_at(&self, buf: &[u8], _: u64) -> Result<usize, Errno> {
        self.pty.write_output(buf)
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn poll(&self) -> PollEvents {
        let state = self.pty.lock();
        let mut events = PollEvents::empty();
        if state.master_closed {
            return PollEvents::POLLIN
                | PollEvents::POLLRDNORM
                | PollEvents::POLLOUT
                | PollEvents::POLLWRNORM
                | PollEvents::POLLERR
                | PollEvents::POLLHUP;
        }
        if state.discipline.is_readable() {
            events |= PollEvents::POLLIN | PollEvents::POLLRDNORM;
        }
        if !state.discipline.is_stopped() && state.output.len() < OUTPUT_LIMIT {
            events |= PollEvents::POLLOUT | PollEvents::POLLWRNORM;
        }
        events
    }

    fn signal_io(&self) -> SignalIo {
        SignalIo::Terminal(self.pty.lock().foreground)
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.pty.slave)
    }

    fn ioctl(&self, ctx: &mut TaskContext, command: u32, argument: u64) -> SysResult {
        super::ioctl::slave(self, ctx, command, argument)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for SlaveFile {
    fn drop(&mut self) {
        let last = {
            let mut state = self.pty.lock();
            state.slaves -= 1;
            state.slaves == 0
        };
        if last {
            self.pty.master.notify_all();
        }
    }
}
