//! How epolls may watch epolls: not in a circle, and not too deep.

use std::sync::Arc;

use amber_abi::errno::Errno;

use super::Epoll;
use crate::sync::{Mutex, MutexGuard, Rank};

/// How many levels of epolls may lie below the outermost.
const DEPTH: usize = 4;

/// Held while an epoll is put into another, so that two at once cannot close a circle.
static TREE: Mutex<()> = Mutex::new(Rank::Epoll, ());

/// Whether `outer` may watch `inner`; the answer holds as long as the guard lives.
///
/// # Errors
/// `EINVAL` if they are the same; `ELOOP` if `inner` leads to `outer`, or the levels become too many.
pub(super) fn check(outer: &Epoll, inner: &Epoll) -> Result<MutexGuard<'static, ()>, Errno> {
    if std::ptr::eq(outer, inner) {
        return Err(Errno::EINVAL);
    }
    let guard = TREE.lock();
    let below = levels_below(inner, outer, 0)?;
    let above = levels_above(outer, 0)?;
    if below + 1 + above > DEPTH { Err(Errno::ELOOP) } else { Ok(guard) }
}

fn levels_below(epoll: &Epoll, forbidden: &Epoll, depth: usize) -> Result<usize, Errno> {
    if depth > DEPTH || std::ptr::eq(epoll, forbidden) {
        return Err(Errno::ELOOP);
    }
    let children: Vec<Arc<Epoll>> = {
        let state = epoll.state.lock();
        state.entries.values().filter_map(|e| e.inner.as_ref()?.upgrade()).collect()
    };
    children.iter().try_fold(0, |most, child| Ok(most.max(1 + levels_below(child, forbidden, depth + 1)?)))
}

fn levels_above(epoll: &Epoll, depth: usize) -> Result<usize, Errno> {
    if depth > DEPTH {
        return Err(Errno::ELOOP);
    }
    let parents: Vec<Arc<Epoll>> = epoll.state.lock().parents.iter().filter_map(|p| p.upgrade()).collect();
    parents.iter().try_fold(0, |most, parent| Ok(most.max(1 + levels_above(parent, depth + 1)?)))
}
