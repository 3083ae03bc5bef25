//! The contexts that run in an address space.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::seat::Seat;

/// The contexts whose last run was in one address space.
#[derive(Default)]
pub struct Residents {
    seats: Mutex<Vec<Arc<Seat>>>,
    /// How often one came or went.
    population: AtomicU64,
}

impl Residents {
    /// A context comes.
    pub fn enter(&self, seat: &Arc<Seat>) {
        self.seats.lock().push(seat.clone());
        self.population.fetch_add(1, Ordering::SeqCst);
    }

    /// A context will run elsewhere.
    pub fn leave(&self, seat: &Arc<Seat>) {
        self.seats.lock().retain(|other| !Arc::ptr_eq(other, seat));
        self.population.fetch_add(1, Ordering::SeqCst);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.seats.lock().len()
    }

    /// Whether none but this one runs guest code.
    pub fn is_nobody_else_running(&self, seat: &Arc<Seat>) -> bool {
        self.seats.lock().iter().all(|other| Arc::ptr_eq(other, seat) || !other.is_running())
    }

    /// A number that changes whenever one comes or goes; never 0 while there are any.
    pub fn population(&self) -> u64 {
        self.population.load(Ordering::SeqCst)
    }

    /// The last change of the space that all running guest code knows of.
    pub fn known(&self) -> u64 {
        let seats = self.seats.lock();
        seats.iter().filter(|seat| seat.is_running()).map(|seat| seat.seen()).min().unwrap_or(u64::MAX)
    }

    /// Makes guest code stop for a moment that does not know of `change`. Returns whether there is any.
    pub fn kick_all_before(&self, change: u64) -> bool {
        let seats = self.seats.lock();
        let late = seats.iter().filter(|seat| seat.is_running() && seat.seen() < change);
        late.map(|seat| seat.kick()).count() > 0
    }
}
