//! For tests only: panics on demand, and functions that do nothing.

use std::cell::Cell;
use std::ptr;

use napi::bindgen_prelude::Env;
use napi_derive::napi;
use napi_sys as sys;

use crate::values::{Js, boolean};

thread_local! {
    static ARMED: Cell<bool> = const { Cell::new(false) };
}

/// Makes the next entry of this thread panic.
#[napi(catch_unwind)]
pub(crate) fn panic_next() {
    // The reports of many wished-for panics would hide one that nobody wished for.
    static QUIET: std::sync::Once = std::sync::Once::new();
    QUIET.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.payload().downcast_ref::<&str>() != Some(&"injected") {
                report(panic);
            }
        }));
    });
    ARMED.set(true);
}

/// Panics if it was asked to.
#[inline(always)]
pub(crate) fn panic_if_asked() {
    if ARMED.replace(false) {
        panic!("injected");
    }
}

/// A function that does as little as one with a string argument can: it reads the string, and answers with a boolean.
#[napi(catch_unwind)]
pub(crate) fn empty_function(env: Env) -> Js {
    let mut function = ptr::null_mut();
    // Safety: no name, no data, and a place for the result.
    unsafe {
        sys::napi_create_function(
            env.raw(),
            ptr::null(),
            0,
            Some(empty),
            ptr::null_mut(),
            &raw mut function,
        )
    };
    Js {
        env: env.raw(),
        value: function,
    }
}

unsafe extern "C" fn empty(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    let mut value = ptr::null_mut();
    let (mut given, mut length) = (1, 0);
    let mut units = [0_u16; 192];
    // Safety: room for one argument and for so many units.
    unsafe {
        sys::napi_get_cb_info(
            env,
            info,
            &raw mut given,
            &raw mut value,
            ptr::null_mut(),
            ptr::null_mut(),
        );
        sys::napi_get_value_string_utf16(env, value, units.as_mut_ptr(), units.len(), &raw mut length);
    }
    boolean(env, length > 0)
}
