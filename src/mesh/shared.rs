//! A value shared by all cores and never changed: a snapshot of the configuration, a router. It is replaced whole by sending
//! another one through the mesh; there is no way to change one in place.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A counted reference to an immutable `T`, for every core. (An `Arc` by a name the other rooms may use.) Cloning touches a
/// line all cores share: clone once per snapshot or connection, borrow per request.
pub struct Shared<T: ?Sized>(Arc<T>);

impl<T> Shared<T> {
    #[must_use]
    pub fn new(value: T) -> Shared<T> {
        Shared(Arc::new(value))
    }
}

impl<T: ?Sized> Shared<T> {
    /// Whether both are the same value in memory, that is: the same snapshot.
    #[must_use]
    pub fn same(&self, other: &Shared<T>) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T: ?Sized> Clone for Shared<T> {
    fn clone(&self) -> Shared<T> {
        Shared(Arc::clone(&self.0))
    }
}

impl<T: ?Sized> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
