//! What a client is known by.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyInt, PyString};

use crate::error::argument;
use crate::guard::guard;

unsafe extern "C" {
    /// Part of the stable ABI since 3.10, and exported with the same signature by 3.9, the oldest interpreter that this
    /// module is built for; pyo3 leaves it out of abi3-py39. The other way, an object of bytes for each key, costs more
    /// than the decision.
    fn PyUnicode_AsUTF8AndSize(text: *mut ffi::PyObject, size: *mut ffi::Py_ssize_t) -> *const std::ffi::c_char;
}

/// An id that was hashed once by `Limiter.key`, to be used often: every call takes it in place of the id.
///
/// It is good for the limiter that made it; for another limiter it is some other client.
#[pyclass(frozen, module = "ratelimit")]
pub(crate) struct ClientKey(pub(crate) ratelimit::ClientKey);

#[pymethods]
impl ClientKey {
    fn __repr__(&self) -> PyResult<String> {
        guard(|| Ok(format!("{:?}", self.0)))
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        guard(|| Ok(other.cast::<ClientKey>().is_ok_and(|other| other.get().0 == self.0)))
    }

    fn __hash__(&self) -> PyResult<u64> {
        use std::hash::{DefaultHasher, Hash, Hasher};
        guard(|| {
            // The fingerprint is hashed once more, so that nothing of it can be read off a dict's order.
            let mut hasher = DefaultHasher::new();
            self.0.hash(&mut hasher);
            Ok(hasher.finish())
        })
    }
}

/// The UTF-8 bytes of a text that has them. `None` for lone surrogates, and for want of memory; no exception is left set.
///
/// Safety: `text` must be a str, and this thread attached. The bytes live as long as the str, which keeps them.
#[inline]
pub(crate) unsafe fn utf8<'a>(text: *mut ffi::PyObject) -> Option<&'a [u8]> {
    let mut size: ffi::Py_ssize_t = 0;
    // Safety: the caller's promise; `size` outlives the call.
    let bytes = unsafe { PyUnicode_AsUTF8AndSize(text, &mut size) };
    if bytes.is_null() {
        // Safety: the caller's promise that this thread is attached.
        unsafe { ffi::PyErr_Clear() };
        return None;
    }
    // Safety: the interpreter answers with the address of `size` initialised bytes that are part of the str, which never
    // changes and which the caller keeps.
    Some(unsafe { std::slice::from_raw_parts(bytes.cast(), size as usize) })
}

/// The client that a key names. `"1"`, `b"1"` and `1` are one client.
#[inline]
pub(crate) fn client(limiter: &ratelimit::Limiter, key: &Bound<'_, PyAny>) -> PyResult<ratelimit::ClientKey> {
    // The class itself first, by its address: to ask whether it is derived from str costs a call.
    // Safety: an address is taken and compared, and nothing read.
    if unsafe { ffi::Py_TYPE(key.as_ptr()) } == &raw mut ffi::PyUnicode_Type {
        // Safety: it is a str, and `key` keeps it for as long as the bytes are used.
        if let Some(bytes) = unsafe { utf8(key.as_ptr()) } {
            return Ok(limiter.key(bytes));
        }
    }
    // Safety: as above.
    if unsafe { ffi::Py_TYPE(key.as_ptr()) } == &raw mut ffi::PyLong_Type {
        // Safety: it is an int, and of this class itself.
        return number(limiter, unsafe { key.cast_unchecked::<PyInt>() });
    }
    other_client(limiter, key)
}

fn other_client(limiter: &ratelimit::Limiter, key: &Bound<'_, PyAny>) -> PyResult<ratelimit::ClientKey> {
    if let Ok(client) = key.cast::<ClientKey>() {
        return Ok(client.get().0);
    }
    if let Ok(text) = key.cast::<PyString>() {
        // Safety: it is a str, and `key` keeps it for as long as the bytes are used.
        return match unsafe { utf8(text.as_ptr()) } {
            Some(bytes) => Ok(limiter.key(bytes)),
            None => lone_surrogates(limiter, text),
        };
    }
    if let Ok(bytes) = key.cast::<PyBytes>() {
        return Ok(limiter.key(bytes.as_bytes()));
    }
    if key.is_instance_of::<PyBool>() {
        return Err(argument(
            key.py(),
            "a key is a bool: True and 1 would be one client, so say which you mean with str() or int()".to_owned(),
        ));
    }
    if let Ok(int) = key.cast::<PyInt>() {
        return number(limiter, int);
    }
    Err(argument(
        key.py(),
        format!(
            "a key is {}: it takes str, bytes, int or what Limiter.key() made",
            key.get_type().name()?
        ),
    ))
}

/// A text with lone surrogates has no UTF-8. They are encoded as if they had one ("surrogatepass"): no other str has these
/// bytes, so that distinct texts stay distinct clients.
#[cold]
fn lone_surrogates(limiter: &ratelimit::Limiter, text: &Bound<'_, PyString>) -> PyResult<ratelimit::ClientKey> {
    let py = text.py();
    // The method of the type, since a subclass may have one of its own.
    // Safety: `text` is a str; the result is a new reference, or null with an exception set.
    let encoded = unsafe {
        Bound::from_owned_ptr_or_err(
            py,
            ffi::PyUnicode_AsEncodedString(text.as_ptr(), c"utf-8".as_ptr(), c"surrogatepass".as_ptr()),
        )?
    };
    Ok(limiter.key(encoded.cast::<PyBytes>()?.as_bytes()))
}

fn number(limiter: &ratelimit::Limiter, number: &Bound<'_, PyInt>) -> PyResult<ratelimit::ClientKey> {
    match number.extract::<i64>() {
        Ok(small) => Ok(limiter.key(Decimal::of(small).bytes())),
        Err(_) => large(limiter, number),
    }
}

#[cold]
fn large(limiter: &ratelimit::Limiter, number: &Bound<'_, PyInt>) -> PyResult<ratelimit::ClientKey> {
    // Its decimal text, whatever a subclass has for `__str__`. Beyond 4,300 digits Python refuses, with a sentence that
    // names `sys.set_int_max_str_digits`.
    // Safety: `number` is an int; the result is a new reference, or null with an exception set.
    let text = unsafe { Bound::from_owned_ptr_or_err(number.py(), ffi::PyNumber_ToBase(number.as_ptr(), 10))? };
    client(limiter, &text)
}

/// The key for a client's network address: see `ratelimit::address` in the crate. None if the text is no address.
#[pyfunction]
#[pyo3(signature = (address, /))]
pub(crate) fn address_key(address: &str) -> PyResult<Option<String>> {
    guard(|| Ok(ratelimit::address::client_key(address, ratelimit::address::IPV6_PREFIX)))
}

/// A number's decimal digits without an allocation.
struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    fn of(number: i64) -> Self {
        let (mut digits, mut start) = ([0; 20], 20);
        let mut rest = number.unsigned_abs();
        loop {
            start -= 1;
            digits[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            // An i64 has at most 19 digits, so that there is room for the sign.
            start -= 1;
            digits[start] = b'-';
        }
        Decimal { digits, start }
    }

    fn bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}
