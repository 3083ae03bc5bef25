//! The reference of an object to itself, for methods that need more than `&self`.

use std::sync::{Arc, Weak};

/// A weak reference to the object that holds it, from [`Arc::new_cyclic`].
pub(crate) struct SelfRef<T>(Weak<T>);

impl<T> SelfRef<T> {
    /// The reference of the object behind `object`.
    pub(crate) fn new(object: &Weak<T>) -> Self {
        SelfRef(object.clone())
    }

    /// The object. Call it from a method of that object, outside `drop`: its caller then holds a reference.
    #[expect(clippy::expect_used, reason = "an object is alive while one of its methods runs")]
    pub(crate) fn get(&self) -> Arc<T> {
        self.0.upgrade().expect("the object of a running method")
    }
}
