//! Where an error number was made: hundreds of places answer `EINVAL`, and only the place says which rule was broken.
//!
//! The place lies beside the number, one per host thread, since a task runs its handlers on one. The number itself
//! stays four bytes, so that results travel in registers.

use core::cell::Cell;
use core::panic::Location;

use super::Errno;

/// A line of the source.
pub type Place = &'static Location<'static>;

thread_local! {
    /// The error number made last in this thread, and where.
    static LAST: Cell<Option<(Errno, Place)>> = const { Cell::new(None) };
}

impl Errno {
    /// This number, made by the line that calls this.
    #[must_use]
    #[track_caller]
    #[inline]
    pub fn here(self) -> Self {
        LAST.set(Some((self, Location::caller())));
        self
    }

    /// Where this number was made, if it is the last that this thread made since [`Errno::forget_place`].
    pub fn place(self) -> Option<Place> {
        LAST.get().and_then(|(errno, place)| (errno == self).then_some(place))
    }

    /// Forgets the last place, as is done before a call whose error is to be explained.
    pub fn forget_place() {
        LAST.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails() -> Result<(), Errno> {
        Err(Errno::EINVAL.here())
    }

    #[test]
    fn the_last_place_is_kept() {
        Errno::forget_place();
        assert_eq!(Errno::EINVAL.place(), None);
        let errno = fails().unwrap_err();
        let place = errno.place().expect("the place was kept");
        assert!(place.file().ends_with("place.rs") && place.line() < line!());
        assert_eq!(Errno::ENOENT.place(), None, "another number");
        std::thread::spawn(|| assert_eq!(Errno::EINVAL.place(), None, "another thread")).join().unwrap();
        Errno::forget_place();
        assert_eq!(errno.place(), None);
    }
}
