use std::fmt;

use ratelimit_core::{Engine, Fingerprint};

/// What a client is known by: an id (anything that is `AsRef<[u8]>`, of any length) or a [`ClientKey`].
pub trait Key: sealed::Sealed {}

/// An id that was hashed once by [`Limiter::key`](crate::Limiter::key), to be used often.
///
/// Every call takes it in place of the id and saves the hash (about 10 ns for 24 bytes). It is good for the limiter that
/// made it and for its clones; for another limiter it is some other client.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientKey(pub(crate) Fingerprint);

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Eight digits are enough to tell clients apart in a log, and too few to stand for one elsewhere.
        write!(f, "ClientKey({:08x})", self.0.bits() >> 32)
    }
}

pub(crate) mod sealed {
    use super::{ClientKey, Engine, Fingerprint};

    pub trait Sealed {
        #[doc(hidden)]
        fn fingerprint(&self, engine: &Engine) -> Fingerprint;
    }

    impl<K: AsRef<[u8]> + ?Sized> Sealed for K {
        #[inline]
        fn fingerprint(&self, engine: &Engine) -> Fingerprint {
            engine.fingerprint(self.as_ref())
        }
    }

    /// As for ids, of which references are ids too: in closures over slices, and in slices of references.
    impl Sealed for &ClientKey {
        #[inline]
        fn fingerprint(&self, _engine: &Engine) -> Fingerprint {
            self.0
        }
    }

    impl Sealed for ClientKey {
        #[inline]
        fn fingerprint(&self, _engine: &Engine) -> Fingerprint {
            self.0
        }
    }
}

impl<K: sealed::Sealed + ?Sized> Key for K {}
