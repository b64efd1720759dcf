//! The two calls that services make for each request, by the cheapest conventions there are: `is_allowed` takes one argument
//! by position (`METH_O`), `check` a plain array of them (`METH_FASTCALL`).
//!
//! pyo3 gives a method of an abi3-py39 module its arguments in a tuple that the interpreter makes for each call, which costs
//! more than the decision (`benches/python/`). So these two are put beside pyo3's by hand.

use std::ffi::{CStr, c_int};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString, PyTuple};
use pyo3::{PyTypeInfo, ffi};

use crate::guard::guard;
use crate::key;
use crate::limiter::Limiter;

const IS_ALLOWED_DOC: &CStr = c"is_allowed($self, key, /)
--

Whether one request of this client is allowed now. If so it is charged.

key: str, bytes, int, or what key() made; \"1\", b\"1\" and 1 are one client.
Cost: about as much as two calls of an empty method. No lock, no system call; the GIL is kept.";

const CHECK_DOC: &CStr = c"check($self, key, cost=1, *, now=None)
--

Decides one request and charges it if it is allowed: all of its cost, or nothing.

cost: a whole number; 0 is always allowed and charges nothing, more than the burst is never allowed.
now: seconds since an origin of the caller's choice, in place of the limiter's own clock.";

/// Interpreters have it with this value since 3.7, and the stable ABI since 3.10; pyo3 leaves it out of abi3-py39.
const METH_FASTCALL: c_int = 0x80;

type FastCall = unsafe extern "C" fn(
    *mut ffi::PyObject,
    *const *mut ffi::PyObject,
    ffi::Py_ssize_t,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;

/// A method that takes one argument.
fn one(name: &'static CStr, doc: &'static CStr, call: ffi::PyCFunction) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: call },
        ml_flags: ffi::METH_O,
        ml_doc: doc.as_ptr(),
    }
}

/// A method that takes any arguments, by position and by name.
fn any(name: &'static CStr, doc: &'static CStr, call: FastCall) -> ffi::PyMethodDef {
    // Safety: the interpreter keeps a function as an untyped address and calls it by what the flags below say, which is
    // the type it has here.
    let call = unsafe { std::mem::transmute::<FastCall, ffi::PyCFunction>(call) };
    ffi::PyMethodDef {
        ml_flags: METH_FASTCALL | ffi::METH_KEYWORDS,
        ..one(name, doc, call)
    }
}

/// Puts the methods on their classes.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    add::<Limiter>(py, one(c"is_allowed", IS_ALLOWED_DOC, is_allowed))?;
    add::<Limiter>(py, any(c"check", CHECK_DOC, check))?;
    #[cfg(feature = "test-hooks")]
    add::<crate::guard::hooks::Noop>(py, one(c"call", c"call($self, text, /)\n--\n\n", noop))?;
    Ok(())
}

fn add<T: PyTypeInfo>(py: Python<'_>, method: ffi::PyMethodDef) -> PyResult<()> {
    let class = T::type_object(py);
    // The interpreter keeps the address for as long as the class lives, which is until the process ends.
    let method: &'static mut ffi::PyMethodDef = Box::leak(Box::new(method));
    // Safety: the name is a text with an end.
    let name = unsafe { CStr::from_ptr(method.ml_name) };
    // Safety: the class is one, the definition lives for ever, and the result is a new reference or null with an
    // exception set.
    let descriptor = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyDescr_NewMethod(class.as_type_ptr(), method))? };
    class.setattr(name.to_string_lossy(), descriptor)
}

/// Safety: called by the interpreter through the descriptor above, which has checked that `limiter` is a [`Limiter`] or of
/// a class derived from it; `key` is an object that the caller keeps; this thread is attached.
unsafe extern "C" fn is_allowed(limiter: *mut ffi::PyObject, key: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // Safety: this thread is attached until the call returns.
    let py = unsafe { Python::assume_attached() };
    let outcome = guard(|| {
        // Safety: see above; the caller keeps both objects for the whole call.
        let (limiter, key) = unsafe {
            (
                Borrowed::from_ptr(py, limiter).cast_unchecked::<Limiter>(),
                Borrowed::from_ptr(py, key),
            )
        };
        let limiter = limiter.get().open(py)?;
        // Safety: an address is taken and compared, and nothing read.
        if unsafe { ffi::Py_TYPE(key.as_ptr()) } == &raw mut ffi::PyUnicode_Type {
            // Safety: it is a str, and the caller keeps it.
            if let Some(bytes) = unsafe { key::utf8(key.as_ptr()) } {
                return Ok(limiter.is_allowed(bytes));
            }
        }
        Ok(limiter.is_allowed(&key::client(limiter, &key)?))
    });
    answer(
        py,
        outcome.map(|allowed| PyBool::new(py, allowed).to_owned().into_any()),
    )
}

/// Safety: called by the interpreter through the descriptor above, which has checked that `limiter` is a [`Limiter`] or of
/// a class derived from it; `args` holds `count` objects and then as many as `names`, a tuple of str or null, has; the
/// caller keeps them all; this thread is attached.
unsafe extern "C" fn check(
    limiter: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // Safety: this thread is attached until the call returns.
    let py = unsafe { Python::assume_attached() };
    let outcome = guard(|| {
        // Safety: see above.
        let limiter = unsafe { Borrowed::from_ptr(py, limiter).cast_unchecked::<Limiter>() };
        // Safety: see above; null and 0 are never handed over together with names.
        let [key, cost, now] = unsafe { arguments(py, "check", args, count, names)? };
        let Some(key) = key else {
            return Err(PyTypeError::new_err("check() missing 1 required argument: 'key'"));
        };
        let decision = limiter.get().decide(py, &key, cost.as_deref(), now.as_deref())?;
        Ok(Bound::new(py, decision)?.into_any())
    });
    answer(py, outcome)
}

/// The arguments `key`, `cost` and `now`, of which the last goes by name only.
///
/// Safety: as [`check`].
unsafe fn arguments<'a, 'py>(
    py: Python<'py>,
    method: &str,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> PyResult<[Option<Borrowed<'a, 'py, PyAny>>; 3]> {
    const NAMES: [&str; 3] = ["key", "cost", "now"];
    const BY_POSITION: usize = 2;
    let count = count as usize;
    if count > BY_POSITION {
        return Err(PyTypeError::new_err(format!(
            "{method}() takes {BY_POSITION} positional arguments but {count} were given"
        )));
    }
    let mut found = [None; 3];
    for (index, place) in found.iter_mut().enumerate().take(count) {
        // Safety: the caller's promise; `index` is below `count`.
        *place = Some(unsafe { Borrowed::from_ptr(py, *args.add(index)) });
    }
    if names.is_null() {
        return Ok(found);
    }
    // Safety: the caller's promise: a tuple.
    let names = unsafe { Borrowed::from_ptr(py, names).cast_unchecked::<PyTuple>() };
    for (index, name) in names.iter_borrowed().enumerate() {
        let name = name.cast::<PyString>()?;
        let name = name.to_string_lossy();
        let Some(place) = NAMES.iter().position(|known| *known == name) else {
            return Err(PyTypeError::new_err(format!(
                "{method}() got an unexpected keyword argument '{name}'"
            )));
        };
        if found[place].is_some() {
            return Err(PyTypeError::new_err(format!(
                "{method}() got multiple values for argument '{name}'"
            )));
        }
        // Safety: the caller's promise: values by name follow those by position.
        let value = unsafe { Borrowed::from_ptr(py, *args.add(count + index)) };
        found[place] = Some(value);
    }
    Ok(found)
}

fn answer(py: Python<'_>, outcome: PyResult<Bound<'_, PyAny>>) -> *mut ffi::PyObject {
    match outcome {
        Ok(object) => object.into_ptr(),
        Err(error) => {
            error.restore(py);
            std::ptr::null_mut()
        }
    }
}

/// Safety: as [`is_allowed`].
#[cfg(feature = "test-hooks")]
unsafe extern "C" fn noop(_: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // Safety: this thread is attached.
    unsafe { ffi::PyBool_FromLong(1) }
}
