//! Limits of nested epolls: no cycles, a maximum depth, and a maximum number of paths from a file to outermost epolls.
//!
//! See docs/internals/epoll.md.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;

use super::Epoll;
use crate::sync::MutexGuard;
use crate::vfs::FileDescription;

/// The maximum number of nesting levels below the outermost epoll.
const DEPTH: usize = 4;

/// The maximum number of paths from a file to outermost epolls, by the number of epolls in between; direct ones are not
/// limited. Each event is propagated along all of them.
const WAYS: [usize; DEPTH + 1] = [usize::MAX, 500, 100, 50, 10];

/// Epolls on one side of an epoll, each with the number of entries that connect the two.
#[derive(Default)]
pub(super) struct Neighbours(HashMap<usize, (Weak<Epoll>, usize)>);

impl Neighbours {
    pub(super) fn add(&mut self, epoll: &Weak<Epoll>) {
        self.0.entry(epoll.as_ptr().addr()).or_insert_with(|| (epoll.clone(), 0)).1 += 1;
    }

    pub(super) fn remove(&mut self, epoll: &Weak<Epoll>) {
        let address = epoll.as_ptr().addr();
        if let Some((_, count)) = self.0.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&address);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn alive(&self) -> Vec<(Arc<Epoll>, usize)> {
        self.0.values().filter_map(|(epoll, count)| Some((epoll.upgrade()?, *count))).collect()
    }
}

/// Checks whether `outer` may watch `inner`. The result holds while the guard lives.
///
/// # Errors
/// `EINVAL` if they are the same or a file would have too many paths; `ELOOP` if `inner` leads to `outer` or the
/// nesting would become too deep.
pub(super) fn check<'a>(outer: &'a Epoll, inner: &Epoll) -> Result<MutexGuard<'a, ()>, Errno> {
    if std::ptr::eq(outer, inner) {
        return Err(Errno::EINVAL.here());
    }
    let guard = outer.vfs.epolls.lock();
    let mut below = Below { forbidden: outer, levels: HashMap::new(), files: HashMap::new() };
    let levels = below.look(inner, 0)?;
    let mut above = Above { link: Some((inner, outer)), ways: HashMap::new() };
    let most = above.ways(outer, 0)?.iter().rposition(|&ways| ways > 0).unwrap_or(0);
    if levels + 1 + most > DEPTH {
        return Err(Errno::ELOOP.here());
    }
    for file in below.files.values() {
        above.check(file, None)?;
    }
    Ok(guard)
}

/// Checks whether `outer`, which other epolls watch, may watch a file that is not an epoll. The result holds while the
/// guard lives.
///
/// # Errors
/// `EINVAL` if the file would have too many paths.
pub(super) fn check_file<'a>(outer: &'a Epoll, file: &Arc<FileDescription>) -> Result<MutexGuard<'a, ()>, Errno> {
    let guard = outer.vfs.epolls.lock();
    Above { link: None, ways: HashMap::new() }.check(file, Some(outer))?;
    Ok(guard)
}

/// The nesting below an epoll. Each epoll is visited once, however many paths lead to it.
struct Below<'a> {
    forbidden: &'a Epoll,
    levels: HashMap<usize, usize>,
    files: HashMap<u64, Arc<FileDescription>>,
}

impl Below<'_> {
    /// The number of levels below an epoll.
    fn look(&mut self, epoll: &Epoll, depth: usize) -> Result<usize, Errno> {
        if depth > DEPTH || std::ptr::eq(epoll, self.forbidden) {
            return Err(Errno::ELOOP.here());
        }
        let address = std::ptr::from_ref(epoll).addr();
        if let Some(&known) = self.levels.get(&address) {
            return Ok(known);
        }
        let inner = {
            let state = epoll.state.lock();
            let files = state.entries.values().filter(|entry| entry.inner.is_none());
            self.files.extend(files.filter_map(|e| Some((e.description_id, e.description.upgrade()?))));
            state.inner.alive()
        };
        let mut most = 0;
        for (child, _) in inner {
            most = most.max(1 + self.look(&child, depth + 1)?);
        }
        self.levels.insert(address, most);
        Ok(most)
    }
}

/// The number of paths from an epoll to outermost ones, by the number of steps.
type Ways = [usize; DEPTH + 1];

/// The nesting above epolls. Each is visited once.
struct Above<'a> {
    /// The connection to be added: the inner and the outer epoll.
    link: Option<(&'a Epoll, &'a Epoll)>,
    ways: HashMap<usize, Ways>,
}

impl Above<'_> {
    fn ways(&mut self, epoll: &Epoll, depth: usize) -> Result<Ways, Errno> {
        if depth > DEPTH {
            return Err(Errno::ELOOP.here());
        }
        let address = std::ptr::from_ref(epoll).addr();
        if let Some(known) = self.ways.get(&address) {
            return Ok(*known);
        }
        let parents = epoll.state.lock().parents.alive();
        let mut ways = [0; DEPTH + 1];
        let mut add = |above: Ways, times: usize| {
            for (sum, more) in ways.iter_mut().skip(1).zip(above) {
                *sum = more.saturating_mul(times).saturating_add(*sum);
            }
        };
        let link = self.link.filter(|(inner, _)| std::ptr::eq(*inner, epoll));
        let is_outermost = parents.is_empty() && link.is_none();
        for (parent, times) in parents {
            add(self.ways(&parent, depth + 1)?, times);
        }
        if let Some((_, outer)) = link {
            add(self.ways(outer, depth + 1)?, 1);
        }
        ways[0] = usize::from(is_outermost);
        self.ways.insert(address, ways);
        Ok(ways)
    }

    /// Checks the number of paths from a file, which `another` is about to watch as well.
    fn check(&mut self, file: &FileDescription, another: Option<&Epoll>) -> Result<(), Errno> {
        let mut sum: Ways = [0; DEPTH + 1];
        let watching = file.watchers().epolls();
        for epoll in watching.iter().map(|epoll| &**epoll).chain(another) {
            let ways = self.ways(epoll, 0)?;
            sum.iter_mut().zip(ways).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        }
        if sum.iter().zip(WAYS).any(|(sum, most)| *sum > most) { Err(Errno::EINVAL.here()) } else { Ok(()) }
    }
}
