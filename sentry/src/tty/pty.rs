//! Pseudo-terminal pairs (pty(7)).

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Instant;

use amber_abi::poll::PollEvents;
use amber_abi::termios::{ControlModes, Termios, Winsize};
use amber_abi::{Errno, Signal};

use super::discipline::LineDiscipline;
use super::master::MasterFile;
use super::modes::{Speeds, real_modes};
use super::slave::SlaveFile;
use crate::kernel::Kernel;
use crate::sync::{Mutex, MutexGuard, Rank};
use crate::task::ControllingTerminal;
use crate::vfs::{Inode, Path};
use crate::wait::{SigioEvent, WaitQueue};

/// The size of the output buffer in bytes, beyond which a writer waits.
pub(super) const OUTPUT_LIMIT: usize = 16 << 10;
/// The maximum unread echo in bytes; more is dropped.
const ECHO_LIMIT: usize = 64 << 10;
/// The maximum input in bytes that waits for room in the line discipline, beyond which a writer of the master waits.
const TYPED_LIMIT: usize = 8192;
/// The major device number of slaves.
pub(crate) const SLAVE_MAJOR: u32 = 136;

/// Status bits of packet mode (ioctl_tty(2), `TIOCPKT`).
pub(super) mod packet {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const FLUSH_READ: u8 = 1;
    pub(crate) const FLUSH_WRITE: u8 = 2;
    pub(crate) const STOP: u8 = 4;
    pub(crate) const START: u8 = 8;
    pub(crate) const NO_STOP: u8 = 16;
    pub(crate) const DO_STOP: u8 = 32;
    pub(crate) const IOCTL: u8 = 64;
}

/// The owner of a pair's number and of the slave's node.
pub(crate) trait PtyHome: Send + Sync {
    /// Called when the master is closed: the slave cannot be opened any more.
    fn master_closed(&self, index: u32);

    /// Called when both sides are closed: the number is free.
    fn released(&self, index: u32);
}

/// A pair: data written to the master is input of the slave.
pub(crate) struct Pty {
    me: Weak<Pty>,
    kernel: Weak<Kernel>,
    index: u32,
    home: Option<Weak<dyn PtyHome>>,
    state: Mutex<State>,
    pub(super) master: WaitQueue,
    pub(super) slave: WaitQueue,
}

/// The state of a pair.
pub(super) struct State {
    pub discipline: LineDiscipline,
    /// Input for which the line discipline has no room yet.
    typed: VecDeque<u8>,
    /// The time of the last input.
    pub last_input: Instant,
    /// Output and echo that the master has not read.
    pub output: VecDeque<u8>,
    pub window: Winsize,
    pub speeds: Speeds,
    /// The session whose controlling terminal the slave is.
    pub session: Option<i32>,
    /// The foreground process group.
    pub foreground: Option<i32>,
    pub slaves: usize,
    pub was_opened: bool,
    pub master_closed: bool,
    /// The number of hang-ups of the slave, which invalidate files opened before.
    pub hang_ups: u64,
    /// Whether the slave cannot be opened, because `unlockpt` was not called.
    pub locked: bool,
    /// Whether opening the slave again requires CAP_SYS_ADMIN (`TIOCEXCL`).
    pub exclusive: bool,
    pub packet_mode: bool,
    pub packet_status: u8,
    place: Option<(Weak<dyn Inode>, Option<Path>)>,
}

/// The effects of input, to be processed without the lock.
#[derive(Default)]
#[must_use = "pass it to `Pty::report`"]
pub(super) struct Fed {
    signals: Vec<Signal>,
    /// Whether there is more input to read.
    input: bool,
    /// Whether there is more output to read.
    echo: bool,
}

impl Pty {
    /// A new pair with this number, allocated by `home`.
    pub(crate) fn new(kernel: &Arc<Kernel>, index: u32, home: Option<Weak<dyn PtyHome>>) -> Arc<Self> {
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
                    typed: VecDeque::new(),
                    last_input: Instant::now(),
                    output: VecDeque::new(),
                    window: Winsize::default(),
                    speeds: Speeds::of(&modes),
                    session: None,
                    foreground: None,
                    slaves: 0,
                    was_opened: false,
                    master_closed: false,
                    hang_ups: 0,
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

    /// The number under `/dev/pts`.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// Approximate heap memory of the pair, in bytes.
    pub(super) fn kept_bytes(&self) -> u64 {
        let state = self.lock();
        let buffers = state.typed.capacity() + state.output.capacity() + state.discipline.kept_bytes();
        (size_of::<Pty>() + buffers) as u64
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn kernel(&self) -> Result<Arc<Kernel>, Errno> {
        self.kernel.upgrade().ok_or_else(|| Errno::EIO.here())
    }

    /// The pair as a controlling terminal.
    pub(crate) fn terminal(&self) -> Option<Arc<dyn ControllingTerminal>> {
        self.me.upgrade().map(|pty| pty as Arc<dyn ControllingTerminal>)
    }

    /// A reference to the pair.
    pub(crate) fn this(&self) -> Option<Arc<Pty>> {
        self.me.upgrade()
    }

    pub(super) fn home(&self) -> Option<Arc<dyn PtyHome>> {
        self.home.as_ref()?.upgrade()
    }

    /// Whether `terminal` is this pair.
    pub(crate) fn is(&self, terminal: &Arc<dyn ControllingTerminal>) -> bool {
        terminal.as_any().downcast_ref::<Pty>().is_some_and(|other| std::ptr::eq(self, other))
    }

    /// Opens the master. Called once, by `/dev/ptmx`.
    pub(crate) fn open_master(self: &Arc<Self>, inode: Arc<dyn Inode>) -> Arc<MasterFile> {
        Arc::new(MasterFile::new(self.clone(), inode))
    }

    /// Opens the slave.
    ///
    /// # Errors
    /// `EIO` while it is locked or after the master was closed; `EBUSY` in exclusive mode without CAP_SYS_ADMIN.
    pub(crate) fn open_slave(
        self: &Arc<Self>,
        inode: Arc<dyn Inode>,
        privileged: bool,
    ) -> Result<Arc<SlaveFile>, Errno> {
        let mut state = self.lock();
        if state.locked || state.master_closed {
            return Err(Errno::EIO.here());
        }
        if state.exclusive && !privileged {
            return Err(Errno::EBUSY.here());
        }
        state.slaves += 1;
        state.was_opened = true;
        let hang_ups = state.hang_ups;
        drop(state);
        Ok(Arc::new(SlaveFile::new(self.clone(), inode, hang_ups)))
    }

    pub(super) fn wake_master(&self) {
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
        // The process table precedes the terminal in the lock order, so the lock is released before sending.
        let foreground = self.lock().foreground;
        if let (Some(pgid), Ok(kernel)) = (foreground, self.kernel()) {
            kernel.signal_process_group(pgid, signal);
        }
    }

    /// Takes input, as much as there is room for.
    ///
    /// # Errors
    /// `EAGAIN` if there is no room.
    pub(super) fn type_keys(&self, keys: &[u8]) -> Result<usize, Errno> {
        let mut state = self.lock();
        let taken = keys.len().min(state.room_for_keys());
        state.typed.extend(keys.iter().take(taken));
        let fed = state.feed();
        drop(state);
        self.report(fed);
        if taken < keys.len() {
            self.master.signals().note_full();
        }
        if taken == 0 && !keys.is_empty() { Err(Errno::EAGAIN.here()) } else { Ok(taken) }
    }

    /// Sends signals and wakes waiters for the effects of input.
    pub(super) fn report(&self, fed: Fed) {
        for signal in &fed.signals {
            self.signal_foreground(*signal);
        }
        self.wake_both();
        if fed.input {
            self.slave.signals().notify(SigioEvent::Input);
        }
        if fed.echo {
            self.master.signals().notify(SigioEvent::Input);
        }
    }

    /// Takes one byte of input (`TIOCSTI`).
    pub(super) fn type_key(&self, key: u8) {
        // If the input buffer is full, the byte is lost, as on Linux.
        let _ = self.type_keys(&[key]);
    }

    /// Hangs up the slave: its open files become invalid, and its session loses the controlling terminal.
    pub(super) fn hang_up(&self) {
        let (session, foreground, fed) = {
            let mut state = self.lock();
            state.hang_ups += 1;
            state.typed.clear();
            state.discipline.flush_input();
            let fed = state.set_stopped_by_program(false);
            (state.session.take(), state.foreground.take(), fed)
        };
        if let (Some(sid), Ok(kernel)) = (session, self.kernel()) {
            kernel.hang_up_session(sid, foreground);
        }
        self.report(fed);
        self.slave.notify_all();
    }

    /// Sets the window size. If it changes, the foreground process group gets SIGWINCH.
    pub(crate) fn resize(&self, window: Winsize) {
        let before = std::mem::replace(&mut self.lock().window, window);
        if before != window {
            self.signal_foreground(Signal::SIGWINCH);
        }
    }

    /// Stores the place of the slave's node, for `TIOCGPTPEER`.
    pub(crate) fn set_slave_place(&self, inode: &Arc<dyn Inode>, path: Option<Path>) {
        self.lock().place = Some((Arc::downgrade(inode), path));
    }

    /// The slave's node.
    pub(super) fn slave_place(&self) -> Option<(Arc<dyn Inode>, Option<Path>)> {
        let (inode, path) = self.lock().place.clone()?;
        Some((inode.upgrade()?, path))
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
    /// The number of bytes of input for which there is room.
    pub(super) fn room_for_keys(&self) -> usize {
        TYPED_LIMIT.saturating_sub(self.typed.len())
    }

    /// Passes input to the line discipline, as much as it has room for.
    pub(super) fn feed(&mut self) -> Fed {
        let (complete, shown) = (self.discipline.complete(), self.output.len());
        let mut fed = Fed::default();
        while !self.typed.is_empty() {
            let received = self.discipline.receive(self.typed.make_contiguous());
            self.typed.drain(..received.taken);
            if received.flush_output {
                self.output.clear();
                self.note(packet::FLUSH_WRITE | packet::FLUSH_READ, 0);
            }
            fed.signals.extend(received.signals);
            if received.taken == 0 {
                break;
            }
        }
        self.settle();
        fed.input = self.discipline.complete() > complete;
        fed.echo = self.output.len() > shown;
        if fed.input {
            self.last_input = Instant::now();
        }
        fed
    }

    /// Passes echo to the master, and reports changes of output flow in packet mode.
    fn settle(&mut self) {
        match self.discipline.take_flow_change() {
            Some(true) => self.note(packet::STOP, packet::START),
            Some(false) => self.note(packet::START, packet::STOP),
            None => {}
        }
        let echo = self.discipline.take_echo();
        if self.output.len() < ECHO_LIMIT {
            self.output.extend(echo);
        }
    }

    /// Stops or restarts output (tcflow(3)).
    pub(super) fn set_stopped_by_program(&mut self, stopped: bool) -> Fed {
        let shown = self.output.len();
        self.discipline.set_stopped_by_program(stopped);
        self.settle();
        Fed { echo: self.output.len() > shown, ..Fed::default() }
    }

    /// Sends a byte to the master, without output processing.
    pub(super) fn send(&mut self, byte: u8) {
        self.output.push_back(byte);
    }

    /// Sets a status bit of packet mode and clears another.
    pub(super) fn note(&mut self, status: u8, instead_of: u8) {
        if self.packet_mode {
            self.packet_status = self.packet_status & !instead_of | status;
        }
    }

    /// Sets the terminal attributes, and reports changes of flow control in packet mode.
    pub(super) fn set_termios(&mut self, modes: Termios, speeds: Speeds) -> Fed {
        use amber_abi::termios::{InputModes, LocalModes, VSTART, VSTOP};
        const USUAL_START: u8 = 0x11;
        const USUAL_STOP: u8 = 0x13;
        let flow = |t: &Termios| {
            let usual = (t.c_cc[VSTART], t.c_cc[VSTOP]) == (USUAL_START, USUAL_STOP);
            usual && t.c_iflag & InputModes::IXON.bits() != 0
        };
        let before = *self.discipline.termios();
        let modes = real_modes(&modes);
        let shown = self.output.len();
        self.discipline.set_termios(modes);
        self.speeds = speeds;
        match (flow(&before), flow(&modes)) {
            (false, true) => self.note(packet::DO_STOP, packet::NO_STOP),
            (true, false) => self.note(packet::NO_STOP, packet::DO_STOP),
            _ => {}
        }
        if (before.c_lflag | modes.c_lflag) & LocalModes::EXTPROC.bits() != 0 {
            self.note(packet::IOCTL, 0);
        }
        self.settle();
        Fed { echo: self.output.len() > shown, ..self.feed() }
    }

    /// Discards unread input, which makes room for pending input.
    pub(super) fn flush_input(&mut self) -> Fed {
        self.discipline.flush_input();
        self.note(packet::FLUSH_READ, 0);
        self.feed()
    }

    /// Discards output that the master has not read.
    pub(super) fn flush_output(&mut self) {
        self.output.clear();
        self.note(packet::FLUSH_WRITE, 0);
    }
}

impl ControllingTerminal for Pty {
    fn control(&self, session: i32, foreground: i32) {
        let mut state = self.lock();
        state.session = Some(session);
        state.foreground = Some(foreground);
    }

    fn release(&self) -> Option<i32> {
        let mut state = self.lock();
        state.session = None;
        state.foreground.take()
    }

    fn device_number(&self) -> u32 {
        // Linux' encoding: minor bits 31..20 and 7..0, major bits 19..8.
        (SLAVE_MAJOR << 8) | (self.index & 0xff) | ((self.index & 0xfff00) << 12)
    }

    fn foreground(&self) -> Option<i32> {
        self.lock().foreground
    }

    fn hang_up(&self) {
        Pty::hang_up(self);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
