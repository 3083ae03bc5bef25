//! The vCPUs of a machine. A context keeps its vCPU until other contexts need it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use amber_platform::{FpuFormat, KernelCharge, KernelPart, PlatformError};
use nix::unistd::gettid;
use parking_lot::{Condvar, Mutex};

use crate::context_handle::ContextHandle;
use crate::cpuid::Features;
use crate::fpu;
use crate::layout::MAX_VCPUS;
use crate::machine::Machine;
use crate::space::TopLevelTable;
use crate::vcpu::{Core, Vcpu};

/// How long a guest may keep a vCPU that another context waits for.
const SLICE: Duration = Duration::from_millis(5);

/// Host kernel memory of a vCPU in bytes, with hardware virtualisation and with KVM in software.
const HARDWARE_BYTES: u64 = 128 << 10;
const SOFTWARE_BYTES: u64 = 448 << 10;
/// The vCPUs use at most 1/8 of the memory for what lives as long as the sandbox …
const POOL_SHARE: u64 = 8;
/// … but there may always be this many.
const MIN_VCPUS: usize = 8;

/// A context that waits for a vCPU.
#[derive(Default)]
struct Waiter {
    given: Mutex<Option<Arc<Vcpu>>>,
    arrived: Condvar,
}

struct State {
    all: Vec<Arc<Vcpu>>,
    free: Vec<Arc<Vcpu>>,
    waiters: VecDeque<Arc<Waiter>>,
    /// Maximum number of vCPUs, broken ones included.
    max: usize,
    /// Number of vCPUs that are broken and not used again.
    broken: usize,
    /// Maximum number of vCPUs that the host supports.
    limit: usize,
    /// Index of the vCPU that was last asked to change its context.
    turn: usize,
}

/// All vCPUs of a machine.
pub(crate) struct Pool {
    machine: Arc<Machine>,
    features: Features,
    plain_format: FpuFormat,
    /// The FPU format with PKRU, which applies where guests can set PKRU; `None` if the host does not save it.
    keys_format: Option<FpuFormat>,
    state: Mutex<State>,
    waiting: AtomicUsize,
    charge: KernelCharge,
}

impl Pool {
    /// A pool of at most `max` vCPUs, with one that starts on `root`.
    ///
    /// # Errors
    /// The host cannot create a vCPU.
    pub(crate) fn new(machine: &Arc<Machine>, max: usize, root: &Arc<TopLevelTable>) -> Result<Pool, PlatformError> {
        let features = Features::of(machine.supported());
        machine.check_physical_bits(features.physical_bits())?;
        let first = Arc::new(Vcpu::new(machine, &features, 0, root)?);
        let (plain_format, keys_format) = {
            let fd = &first.core.lock().fd;
            let with_keys = |at| fpu::format_of(fd, &features, Some(at));
            (fpu::format_of(fd, &features, None)?, features.keys_at.map(with_keys).transpose()?)
        };
        let limit = machine.kvm().get_max_vcpus().min(MAX_VCPUS as usize).max(1);
        let max = max.clamp(1, limit);
        let waiters = VecDeque::new();
        let state = State { all: vec![first.clone()], free: vec![first], waiters, max, broken: 0, limit, turn: 0 };
        Ok(Pool {
            machine: machine.clone(),
            features,
            plain_format,
            keys_format,
            state: Mutex::new(state),
            waiting: AtomicUsize::new(0),
            charge: machine.memory().charge(KernelPart::Vcpus, 0),
        })
    }

    /// The FPU format of guests.
    pub(crate) fn format(&self) -> &FpuFormat {
        match &self.keys_format {
            Some(format) if self.machine.quirks().users_set_keys => format,
            _ => &self.plain_format,
        }
    }

    /// Whether the host saves PKRU.
    pub(crate) fn keeps_keys(&self) -> bool {
        self.keys_format.is_some()
    }

    /// Offset of PKRU in the FPU state, if guests can set it.
    pub(crate) fn keys_at(&self) -> Option<usize> {
        self.features.keys_at.filter(|_| self.machine.quirks().users_set_keys)
    }

    /// Sets the `syscall` entry points of all vCPUs again, after a quirk was detected.
    pub(crate) fn set_syscall_entries(&self) -> Result<(), PlatformError> {
        self.state.lock().all.iter().try_for_each(|vcpu| vcpu.core.lock().set_syscall_entry())
    }

    /// The number of vCPUs, broken ones included.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.state.lock().all.len()
    }

    /// Whether a context waits for a vCPU.
    pub(crate) fn is_scarce(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Allocates a vCPU to a context of the calling thread. It does not hold the state of another one. A new vCPU
    /// starts on `root`.
    ///
    /// # Errors
    /// The state of the previous context cannot be read.
    pub(crate) fn take(
        &self,
        handle: &Arc<ContextHandle>,
        root: &Arc<TopLevelTable>,
    ) -> Result<Arc<Vcpu>, PlatformError> {
        let vcpu = self.find(root)?;
        vcpu.reserved.store(true, Ordering::SeqCst);
        *vcpu.owner.lock() = Some(handle.clone());
        vcpu.thread.store(gettid().as_raw(), Ordering::Relaxed);
        handle.set_vcpu(Some(vcpu.clone()));
        Ok(vcpu)
    }

    fn find(&self, root: &Arc<TopLevelTable>) -> Result<Arc<Vcpu>, PlatformError> {
        let thread = gettid().as_raw();
        let waiter = {
            let mut state = self.state.lock();
            let known = state.free.iter().rposition(|vcpu| vcpu.thread.load(Ordering::Relaxed) == thread);
            if let Some(vcpu) = known.map(|i| state.free.swap_remove(i)) {
                return Ok(vcpu);
            }
            if let Some(vcpu) = state.free.pop() {
                return Ok(vcpu);
            }
            if let Some(vcpu) = self.grow(&mut state, root) {
                return Ok(vcpu);
            }
            if let Some(vcpu) = self.take_idle(&state.all)? {
                return Ok(vcpu);
            }
            let waiter = Arc::new(Waiter::default());
            state.waiters.push_back(waiter.clone());
            self.waiting.fetch_add(1, Ordering::SeqCst);
            waiter
        };
        let result = self.wait(&waiter, root);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        result
    }

    /// The number of vCPUs that guest memory allows. They are never freed before the machine.
    fn affordable(&self) -> usize {
        let cap = self.machine.memory().lasting_cap();
        ((cap / POOL_SHARE / self.bytes_each()) as usize).max(MIN_VCPUS)
    }

    fn bytes_each(&self) -> u64 {
        if self.machine.quirks().syscall_stays_in_ring_3 { SOFTWARE_BYTES } else { HARDWARE_BYTES }
    }

    /// Creates another vCPU, within the limits.
    fn grow(&self, state: &mut State, root: &Arc<TopLevelTable>) -> Option<Arc<Vcpu>> {
        if state.all.len() >= state.max.min(self.affordable() + state.broken) {
            return None;
        }
        match Vcpu::new(&self.machine, &self.features, state.all.len() as u64, root) {
            Ok(vcpu) => {
                let vcpu = Arc::new(vcpu);
                state.all.push(vcpu.clone());
                self.charge.set(state.all.len() as u64 * self.bytes_each());
                Some(vcpu)
            }
            Err(error) => {
                log::warn!("{error}; continuing with {} vCPUs", state.all.len());
                state.max = state.all.len();
                None
            }
        }
    }

    /// Takes the vCPU of a context that is not in the guest.
    fn take_idle(&self, all: &[Arc<Vcpu>]) -> Result<Option<Arc<Vcpu>>, PlatformError> {
        for vcpu in all {
            let Some(core) = vcpu.core.try_lock() else { continue };
            let usable = !vcpu.reserved.load(Ordering::SeqCst) && !vcpu.broken.load(Ordering::SeqCst);
            if usable && self.evict(vcpu, &core)? {
                return Ok(Some(vcpu.clone()));
            }
        }
        Ok(None)
    }

    /// Saves the state of a vCPU's context. Returns false if the vCPU has none.
    fn evict(&self, vcpu: &Vcpu, core: &Core) -> Result<bool, PlatformError> {
        // Locked to the end: the context must not see that it has no vCPU before its state is saved.
        let mut owner = vcpu.owner.lock();
        let Some(handle) = &*owner else { return Ok(false) };
        *handle.saved.lock() = Some(fpu::state_of(&core.fd, self.format())?);
        handle.set_vcpu(None);
        *owner = None;
        Ok(true)
    }

    fn wait(&self, waiter: &Waiter, root: &Arc<TopLevelTable>) -> Result<Arc<Vcpu>, PlatformError> {
        let mut given = waiter.given.lock();
        loop {
            if let Some(vcpu) = given.take() {
                return Ok(vcpu);
            }
            if waiter.arrived.wait_for(&mut given, SLICE).timed_out() && given.is_none() {
                drop(given);
                self.preempt(waiter, root);
                given = waiter.given.lock();
            }
        }
    }

    /// If `waiter` is the next in line, gives it a new vCPU (in place of a broken one), or an idle one, or asks a
    /// running context to give up its vCPU.
    fn preempt(&self, waiter: &Waiter, root: &Arc<TopLevelTable>) {
        let mut state = self.state.lock();
        if !state.waiters.front().is_some_and(|first| std::ptr::eq(Arc::as_ptr(first), waiter)) {
            return;
        }
        let new = self.grow(&mut state, root);
        if let Some(vcpu) = new.or_else(|| self.take_idle(&state.all).ok().flatten()) {
            hand_over(&mut state, vcpu);
            return;
        }
        state.turn = (state.turn + 1) % state.all.len();
        let owner = state.all[state.turn].owner.lock().clone();
        drop(state);
        if let Some(handle) = owner {
            handle.request_vcpu();
        }
    }

    /// Gives the vCPU of a context to the next waiter, and saves the context's state. `core` is the vCPU's core.
    ///
    /// # Errors
    /// The state cannot be read.
    pub(crate) fn give_way(&self, vcpu: Arc<Vcpu>, core: &Core) -> Result<(), PlatformError> {
        self.evict(&vcpu, core)?;
        hand_over(&mut self.state.lock(), vcpu);
        Ok(())
    }

    /// Takes back the vCPU of a context that ended.
    pub(crate) fn give_back(&self, vcpu: Arc<Vcpu>, handle: &Arc<ContextHandle>) {
        let mut state = self.state.lock();
        let mut owner = vcpu.owner.lock();
        if handle.is(owner.as_ref()) {
            *owner = None;
            drop(owner);
            if vcpu.broken.load(Ordering::SeqCst) {
                // It may be replaced by a new one.
                state.broken += 1;
                state.max = (state.max + 1).min(state.limit);
            } else {
                hand_over(&mut state, vcpu);
            }
        }
    }
}

fn hand_over(state: &mut State, vcpu: Arc<Vcpu>) {
    match state.waiters.pop_front() {
        Some(waiter) => {
            *waiter.given.lock() = Some(vcpu);
            waiter.arrived.notify_one();
        }
        None => state.free.push(vcpu),
    }
}
