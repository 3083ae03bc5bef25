//! A context: a guest thread on whatever virtual processor it gets.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use amber_platform::{
    AddressSpace, Breakpoint, Context, DebugRegisters, FloatingPoint, HostFault, Interrupter, Reason, Registers, Room,
    Trap,
};

use crate::answers::Answer;
use crate::behaviour;
use crate::exits::{self, Meaning};
use crate::layout::ADDRESS_LIMIT;
use crate::residents::Residents;
use crate::seat::Seat;
use crate::space::Space;
use crate::vcpu::{Core, Vcpu, are_loadable};
use crate::{Shared, fault, floating};

/// `si_code` of a signal that stands for no particular cause.
const SI_KERNEL: i32 = 0x80;

/// What a context knows of the space it ran in last.
struct Residence {
    residents: Arc<Residents>,
    /// How often contexts had come and gone there when the answers were last noted,
    population: u64,
    /// and whether this was the only one in any space.
    sole: bool,
}

/// See [`Context`].
pub struct KvmContext {
    shared: Arc<Shared>,
    seat: Arc<Seat>,
    vcpu: Option<Arc<Vcpu>>,
    residence: Option<Residence>,
    /// The floating-point state, when it is not in the processor.
    floating: Option<FloatingPoint>,
    answers: Vec<Answer>,
    /// Whether the processor or the space does not have the answers yet.
    answers_changed: bool,
    breakpoints: DebugRegisters,
    /// Those that the last SIGTRAP is about.
    hit: u8,
}

impl KvmContext {
    /// A context that has run nowhere yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        let floating = Some(shared.pool.format().initial());
        KvmContext {
            shared,
            seat: Seat::new(),
            vcpu: None,
            residence: None,
            floating,
            answers: Vec::new(),
            answers_changed: true,
            breakpoints: DebugRegisters::default(),
            hit: 0,
        }
    }

    /// Sets breakpoints without asking whether they come up.
    pub fn try_breakpoints(&mut self, breakpoints: &DebugRegisters) {
        self.breakpoints = *breakpoints;
    }

    /// Moves into a space if it is not the one of the last run.
    fn settle(&mut self, space: &Space) -> Result<(), HostFault> {
        let at_home = |residence: &Residence| Arc::ptr_eq(&residence.residents, space.residents());
        if !self.residence.as_ref().is_some_and(at_home) {
            self.move_out();
            space.residents().enter(&self.seat);
            self.shared.settled.fetch_add(1, Ordering::SeqCst);
            self.residence = Some(Residence { residents: space.residents().clone(), population: 0, sole: false });
            self.answers_changed = true;
        }
        if let (Some(shared), Some(residence)) = (space.answers(), &mut self.residence) {
            let population = residence.residents.population();
            let sole = self.shared.settled.load(Ordering::SeqCst) == 1;
            if self.answers_changed || residence.population != population || residence.sole != sole {
                (residence.population, residence.sole) = (population, sole);
                shared.update(&self.answers, residence.residents.count() == 1, sole);
            }
        }
        space.check()
    }

    /// Leaves the space and gives the processor back.
    fn leave(&mut self) {
        self.move_out();
        self.seat.set_vcpu(None);
        if let Some(vcpu) = self.vcpu.take() {
            self.shared.pool.give_back(vcpu, &self.seat);
        }
        self.seat.saved.lock().take();
    }

    fn move_out(&mut self) {
        if let Some(Residence { residents, .. }) = self.residence.take() {
            residents.leave(&self.seat);
            self.shared.settled.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// The processor, if it still has this context's state. `core` is its core.
    fn owns(&self, vcpu: &Vcpu) -> bool {
        vcpu.user.lock().as_ref().is_some_and(|user| Arc::ptr_eq(user, &self.seat))
    }

    /// Finds a processor; it may be taken away again until its core is locked.
    fn find_vcpu(&mut self, space: &Space) -> Result<Arc<Vcpu>, HostFault> {
        match &self.vcpu {
            Some(vcpu) if self.owns(vcpu) => Ok(vcpu.clone()),
            _ => {
                let vcpu = self.shared.pool.take(&self.seat, space.root())?;
                let saved = self.seat.saved.lock().take();
                self.floating = self.floating.take().or(saved);
                self.answers_changed = true;
                self.vcpu = Some(vcpu.clone());
                Ok(vcpu)
            }
        }
    }

    /// Runs once. None if nothing happened that the sentry should know of.
    fn turn(&mut self, space: &Space, r: &mut Registers) -> Result<Option<Trap>, HostFault> {
        self.settle(space)?;
        let vcpu = self.find_vcpu(space)?;
        let mut core = vcpu.core.lock();
        vcpu.fresh.store(false, Ordering::SeqCst);
        if !self.owns(&vcpu) {
            return Ok(None);
        }
        if let Some(state) = self.floating.take() {
            floating::write(&core.fd, &state)?;
        }
        if self.answers_changed {
            core.set_answers(&self.answers);
            self.answers_changed = false;
        }
        core.set_breakpoints(&self.breakpoints)?;
        vcpu.immediate_exit().store(0, Ordering::SeqCst);
        if !self.seat.start() {
            return Ok(None);
        }
        // Whoever makes changes from here on sees that guest code may be running, and what it knows of.
        let change = space.change();
        self.seat.set_seen(change);
        core.load(r, space.root(), change);
        let meaning = self.run_core(&mut core, &vcpu, space, r);
        let hit = core.take_hit();
        self.seat.stop();
        space.after_run();
        // Changing the thread of a processor can take the host longer than others wait: whoever has not come to run yet
        // stays, or nobody would ever get on.
        let started = !matches!(meaning, Ok(Meaning::NotStarted));
        if (self.seat.take_wanted() || self.shared.pool.is_scarce()) && started {
            self.vcpu = None;
            self.shared.pool.give_way(vcpu.clone(), &core)?;
        }
        match meaning? {
            Meaning::Trap(trap) => {
                self.hit = hit;
                Ok(Some(trap))
            }
            Meaning::Nothing | Meaning::NotStarted | Meaning::GoOn => Ok(None),
        }
    }

    /// Runs a processor until it is in a state that the sentry understands.
    fn run_core(&self, core: &mut Core, vcpu: &Vcpu, space: &Space, r: &mut Registers) -> Result<Meaning, HostFault> {
        loop {
            let left = core.run()?;
            let meaning = exits::understand(core, left, space, &self.shared.machine, r)?;
            self.shared.machine.counters.count(Reason::of(match &meaning {
                Meaning::Trap(trap) => Some(trap),
                Meaning::Nothing | Meaning::NotStarted | Meaning::GoOn => None,
            }));
            if meaning != Meaning::GoOn {
                return Ok(meaning);
            }
            vcpu.immediate_exit().store(0, Ordering::SeqCst);
        }
    }

    /// Works with the processor if it has this context's state.
    fn with_own<T>(&self, work: impl FnOnce(&Core) -> Result<T, HostFault>) -> Option<Result<T, HostFault>> {
        let vcpu = self.vcpu.as_ref()?;
        let core = vcpu.core.lock();
        self.owns(vcpu).then(|| work(&core))
    }
}

fn own(space: &dyn AddressSpace) -> Result<&Space, HostFault> {
    space.as_any().downcast_ref().ok_or_else(|| fault("an address space of another platform", ErrorKind::InvalidInput))
}

impl Context for KvmContext {
    fn run(&mut self, space: &dyn AddressSpace, registers: &mut Registers) -> Result<Trap, HostFault> {
        let space = own(space)?;
        loop {
            if self.seat.take_interrupt() {
                registers.orig_rax = u64::MAX;
                return Ok(Trap::Interrupted);
            }
            if !are_loadable(registers) {
                return Ok(Trap::Exception { signal: libc::SIGSEGV, code: SI_KERNEL, address: 0 });
            }
            if let Some(trap) = self.turn(space, registers)? {
                return Ok(trap);
            }
        }
    }

    fn fork_space(&mut self, space: &dyn AddressSpace) -> Result<Arc<dyn AddressSpace>, HostFault> {
        Ok(Arc::new(own(space)?.copy()?))
    }

    fn prepare_thread(&mut self, _: &dyn AddressSpace) -> Result<Room, HostFault> {
        Ok(Room::plenty())
    }

    fn rest(&mut self) {
        self.leave();
        self.seat.take_interrupt();
        self.floating = Some(self.shared.pool.format().initial());
        self.answers = Vec::new();
        self.answers_changed = true;
        (self.breakpoints, self.hit) = (DebugRegisters::default(), 0);
    }

    fn floating_point(&mut self) -> Result<FloatingPoint, HostFault> {
        if let Some(state) = &self.floating {
            return Ok(state.clone());
        }
        let format = self.shared.pool.format();
        if let Some(state) = self.with_own(|core| floating::state_of(&core.fd, format)) {
            return state;
        }
        let saved = self.seat.saved.lock().take().unwrap_or_else(|| format.initial());
        Ok(self.floating.insert(saved).clone())
    }

    fn set_floating_point(&mut self, state: &FloatingPoint) -> Result<(), HostFault> {
        if !self.shared.pool.format().accepts(state) {
            return Err(fault("a floating-point state no processor loads", ErrorKind::InvalidInput));
        }
        self.floating = Some(state.clone());
        Ok(())
    }

    fn reset_floating_point(&mut self) -> Result<(), HostFault> {
        self.floating = Some(self.shared.pool.format().initial());
        Ok(())
    }

    fn publish(&mut self, answers: &[Answer]) {
        self.answers = answers.to_vec();
        self.answers_changed = true;
    }

    fn set_breakpoints(&mut self, breakpoints: &[Breakpoint]) -> Result<(), HostFault> {
        let wanted =
            DebugRegisters::of(breakpoints, ADDRESS_LIMIT).map_err(|e| fault("breakpoints no processor has", e))?;
        if !wanted.is_empty() && !behaviour::has_breakpoints(&self.shared)? {
            return Err(fault("the host's KVM has no breakpoints for guests", ErrorKind::Unsupported));
        }
        self.breakpoints = wanted;
        Ok(())
    }

    fn breakpoints_hit(&self) -> u8 {
        self.hit
    }

    fn interrupter(&self) -> Arc<dyn Interrupter> {
        self.seat.clone()
    }
}

impl Drop for KvmContext {
    fn drop(&mut self) {
        self.leave();
    }
}
