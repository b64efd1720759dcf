//! The one border between JavaScript and Rust: errors become exceptions there, and panics end.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::rc::Rc;

use napi::Status;
use napi::bindgen_prelude::Env;
use napi_derive::napi;
use napi_sys as sys;
use ratelimit::Error;

use crate::hot::bind_all;
use crate::limiters::{DECISION_NUMBERS, Limiters};
use crate::values::Js;

/// What this addon keeps for each environment: the main thread's, and one for each worker.
struct PerEnvironment {
    /// The class `RateLimitError`.
    error_class: sys::napi_ref,
    /// The limiters that were made here.
    limiters: Rc<Limiters>,
}

/// Sets an environment up: tells it its class of errors, and returns the buffer in which it finds decisions, and after it
/// the short calls (see `hot.rs`).
///
/// The buffer must not be detached, so that it must not leave `index.js`. If that is evaluated once more in the same
/// environment, the earlier record stays, since limiters write to its buffer; it is not more than the module itself keeps.
#[napi(catch_unwind)]
pub(crate) fn init(env: Env, error_class: Js) -> napi::Result<Vec<Js>> {
    let env = env.raw();
    guard(env, || {
        let failed = || Error::Internal("an environment could not be set up".to_owned());
        let mut class_ref = ptr::null_mut();
        let (mut buffer, mut data, mut buffer_ref) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        // Safety: `env` is the environment of this call, `error_class` a value of it, and all else are places for results.
        // The reference to the buffer is never given back: it lives as long as the environment.
        let made = unsafe {
            sys::napi_create_reference(env, error_class.value, 1, &raw mut class_ref) == sys::Status::napi_ok
                && sys::napi_create_arraybuffer(env, DECISION_NUMBERS * 8, &raw mut data, &raw mut buffer)
                    == sys::Status::napi_ok
                && sys::napi_create_reference(env, buffer, 1, &raw mut buffer_ref) == sys::Status::napi_ok
        };
        if !made || data.is_null() {
            return Err(failed());
        }
        let limiters = Rc::new(Limiters::new(data.cast()));
        let mut values = vec![Js { env, value: buffer }];
        values.extend(bind_all(env, &limiters)?);
        let kept = Box::new(PerEnvironment {
            error_class: class_ref,
            limiters,
        });
        // Safety: the pointer comes from a box, and `forget` frees that box once, when the environment ends.
        let set =
            unsafe { sys::napi_set_instance_data(env, Box::into_raw(kept).cast(), Some(forget), ptr::null_mut()) };
        if set != sys::Status::napi_ok {
            return Err(failed());
        }
        Ok(values)
    })
}

unsafe extern "C" fn forget(_env: sys::napi_env, data: *mut c_void, _hint: *mut c_void) {
    // The references end with the environment.
    // Safety: called once by the engine, with the pointer that `init` made from a box of this type.
    drop(unsafe { Box::from_raw(data.cast::<PerEnvironment>()) });
}

fn per_environment<'a>(env: sys::napi_env) -> Option<&'a PerEnvironment> {
    let mut data = ptr::null_mut();
    // Safety: `env` is the environment of the running call. The data, if any, was set by `init`, lives as long as the
    // environment, and is never changed.
    unsafe {
        if sys::napi_get_instance_data(env, &raw mut data) != sys::Status::napi_ok {
            return None;
        }
        data.cast::<PerEnvironment>().as_ref()
    }
}

/// The limiters of this environment, if it was set up.
pub(crate) fn limiters(env: sys::napi_env) -> Option<Rc<Limiters>> {
    per_environment(env).map(|kept| Rc::clone(&kept.limiters))
}

/// Runs what a napi function does. An error becomes a `RateLimitError` that is thrown, and a panic ends here.
pub(crate) fn guard<T>(env: sys::napi_env, work: impl FnOnce() -> Result<T, Error>) -> napi::Result<T> {
    caught(work).map_err(|error| {
        throw(env, &error);
        // What is thrown already is not thrown again.
        napi::Error::new(Status::PendingException, error.to_string())
    })
}

/// The same for a function of the plain interface. Null is `undefined`, and ignored when an exception is pending.
#[inline(always)]
pub(crate) fn guard_plain(
    env: sys::napi_env,
    work: impl FnOnce() -> Result<sys::napi_value, Error>,
) -> sys::napi_value {
    match caught(work) {
        Ok(value) => value,
        Err(error) => {
            throw(env, &error);
            ptr::null_mut()
        }
    }
}

#[inline(always)]
fn caught<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    // Unwind safety: what a panic could leave half done is a limiter's table, which is made for threads that stop anywhere,
    // and cells that are only read and replaced as a whole.
    let result = catch_unwind(AssertUnwindSafe(|| {
        #[cfg(feature = "test-hooks")]
        crate::hooks::panic_if_asked();
        work()
    }));
    match result {
        Ok(result) => result,
        Err(payload) => Err(contained(payload)),
    }
}

#[cold]
fn contained(payload: Box<dyn std::any::Any + Send>) -> Error {
    let error = Error::of_panic(&*payload);
    // A payload whose destructor panics would end the process.
    std::mem::forget(payload);
    error
}

/// Throws an error as a `RateLimitError`, unless JavaScript has thrown something itself.
#[cold]
fn throw(env: sys::napi_env, error: &Error) {
    let text = error.to_string();
    let mut pending = false;
    // Safety: `env` is the environment of the running call.
    unsafe { sys::napi_is_exception_pending(env, &raw mut pending) };
    if pending
        || instance(env, error, &text).is_some_and(|instance| {
            // Safety: `instance` is a value that was just made in this environment.
            unsafe { sys::napi_throw(env, instance) == sys::Status::napi_ok }
        })
    {
        return;
    }
    // Without the class: an ordinary error is better than none.
    let text: Vec<u8> = text.bytes().filter(|&byte| byte != 0).chain([0]).collect();
    // Safety: the text ends with a zero byte.
    unsafe { sys::napi_throw_error(env, ptr::null(), text.as_ptr().cast()) };
}

fn instance(env: sys::napi_env, error: &Error, text: &str) -> Option<sys::napi_value> {
    let class_ref = per_environment(env)?.error_class;
    let mut class = ptr::null_mut();
    let mut arguments = [ptr::null_mut(); 3];
    let mut instance = ptr::null_mut();
    let string = |text: &str, place: &mut sys::napi_value| {
        // Safety: pointer and length are those of one text.
        unsafe {
            sys::napi_create_string_utf8(env, text.as_ptr().cast(), text.len() as isize, place) == sys::Status::napi_ok
        }
    };
    let ok = string(text, &mut arguments[0]) && string(error.name(), &mut arguments[1]);
    // Safety: the reference was made by `init` and lives as long as the environment; all else are values of this
    // environment and places for results.
    let made = ok
        && unsafe {
            sys::napi_create_uint32(env, error.code(), &raw mut arguments[2]) == sys::Status::napi_ok
                && sys::napi_get_reference_value(env, class_ref, &raw mut class) == sys::Status::napi_ok
                && sys::napi_new_instance(env, class, arguments.len(), arguments.as_ptr(), &raw mut instance)
                    == sys::Status::napi_ok
        };
    made.then_some(instance)
}
