//! The short calls: plain functions whose first argument is a limiter's number.

use std::ffi::{CStr, c_void};
use std::ptr;
use std::rc::Rc;

use napi_sys as sys;
use ratelimit::{Decision, Error, Limiter, Wait};

use crate::boundary::guard_plain;
use crate::key::{append, units, with_key};
use crate::limiters::{DECISION_NUMBERS, Limiters};
use crate::values::{Js, boolean, double, element, numbers, typed};

/// The arguments of a call.
struct Arguments<'a, const N: usize> {
    env: sys::napi_env,
    limiters: &'a Limiters,
    values: [sys::napi_value; N],
}

impl<const N: usize> Arguments<'_, N> {
    #[inline(always)]
    fn at(&self, index: usize) -> Js {
        Js {
            env: self.env,
            value: self.values[index],
        }
    }

    /// Does something with the limiter whose number is the first argument.
    #[inline(always)]
    fn with<R>(&self, work: impl FnOnce(&Limiter) -> R) -> Result<R, Error> {
        let mut number = u32::MAX;
        // Safety: a value of this environment and a place for the result, which stays for what is no number.
        unsafe { sys::napi_get_value_uint32(self.env, self.values[0], &raw mut number) };
        self.limiters.with(number, work)
    }
}

/// A function with `N` arguments.
trait Short<const N: usize> {
    const NAME: &CStr;

    fn call(arguments: &Arguments<'_, N>) -> Result<sys::napi_value, Error>;
}

/// What the engine calls.
unsafe extern "C" fn entry<B: Short<N>, const N: usize>(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    guard_plain(env, || {
        let mut values = [ptr::null_mut(); N];
        let (mut given, mut data) = (N, ptr::null_mut());
        // Safety: `values` has room for `N` arguments; those that were not given are filled with `undefined`.
        unsafe {
            sys::napi_get_cb_info(
                env,
                info,
                &raw mut given,
                values.as_mut_ptr(),
                ptr::null_mut(),
                &raw mut data,
            )
        };
        // Safety: `bind` has made this function with a pointer from an `Rc`, which `release` gives back only when the
        // function is collected.
        let limiters = unsafe { data.cast::<Limiters>().as_ref() };
        match limiters {
            Some(limiters) => B::call(&Arguments { env, limiters, values }),
            None => Err(Error::Internal("a call came without its environment".to_owned())),
        }
    })
}

fn bind<B: Short<N>, const N: usize>(env: sys::napi_env, limiters: &Rc<Limiters>) -> Result<sys::napi_value, Error> {
    let mut function = ptr::null_mut();
    let data = Rc::into_raw(Rc::clone(limiters)).cast_mut().cast::<c_void>();
    // Safety: the name ends with a zero byte. The function keeps `data`, and is the only one that has this reference.
    let made = unsafe {
        sys::napi_create_function(
            env,
            B::NAME.as_ptr(),
            B::NAME.count_bytes() as isize,
            Some(entry::<B, N>),
            data,
            &raw mut function,
        ) == sys::Status::napi_ok
            && sys::napi_wrap(env, function, data, Some(release), ptr::null_mut(), ptr::null_mut())
                == sys::Status::napi_ok
    };
    if made {
        return Ok(function);
    }
    // Safety: nobody else gives this reference back. A function that was made is not reachable from JavaScript.
    unsafe { release(env, data, ptr::null_mut()) };
    Err(Error::Internal("a function could not be made".to_owned()))
}

unsafe extern "C" fn release(_env: sys::napi_env, data: *mut c_void, _hint: *mut c_void) {
    // A panic must not leave through the engine.
    let _contained = std::panic::catch_unwind(|| {
        // Safety: `data` is the reference that `bind` gave to one function, which is gone: called once for each.
        drop(unsafe { Rc::from_raw(data.cast::<Limiters>()) });
    });
}

/// All short calls, in the order in which `index.js` takes them.
pub(crate) fn bind_all(env: sys::napi_env, limiters: &Rc<Limiters>) -> Result<Vec<Js>, Error> {
    let functions = [
        bind::<IsAllowed, 2>(env, limiters)?,
        bind::<Check, 3>(env, limiters)?,
        bind::<CheckAt, 5>(env, limiters)?,
        bind::<AllowedMany, 5>(env, limiters)?,
        bind::<CheckMany, 6>(env, limiters)?,
        bind::<Attempt, 5>(env, limiters)?,
    ];
    Ok(functions.map(|value| Js { env, value }).into())
}

/// `isAllowed(limiter, key)`.
struct IsAllowed;

impl Short<2> for IsAllowed {
    const NAME: &CStr = c"isAllowed";

    #[inline(always)]
    fn call(arguments: &Arguments<'_, 2>) -> Result<sys::napi_value, Error> {
        let allowed = with_key(arguments.env, arguments.values[1], |key| {
            arguments.with(|limiter| limiter.is_allowed(key))
        })??;
        Ok(boolean(arguments.env, allowed))
    }
}

/// `check(limiter, key, cost)`: the decision lies in the buffer.
struct Check;

impl Short<3> for Check {
    const NAME: &CStr = c"check";

    #[inline(always)]
    fn call(arguments: &Arguments<'_, 3>) -> Result<sys::napi_value, Error> {
        let cost = arguments.at(2).count("cost")?;
        let decision = with_key(arguments.env, arguments.values[1], |key| {
            arguments.with(|limiter| limiter.check_n(key, cost))
        })??;
        arguments.limiters.tell(&decision);
        Ok(ptr::null_mut())
    }
}

/// `checkAt(limiter, key, cost, nowMs, peek)`.
struct CheckAt;

impl Short<5> for CheckAt {
    const NAME: &CStr = c"checkAt";

    fn call(arguments: &Arguments<'_, 5>) -> Result<sys::napi_value, Error> {
        let cost = arguments.at(2).count("cost")?;
        let now = arguments
            .at(3)
            .optional()
            .map(|now| now.milliseconds("nowMs"))
            .transpose()?;
        let peek = arguments.at(4).truth();
        let decision = arguments.at(1).key(|key| {
            arguments.with(|limiter| match (now, peek) {
                (None, false) => limiter.check_n(key, cost),
                (None, true) => limiter.peek_n(key, cost),
                (Some(now), false) => limiter.check_at(key, cost, now),
                (Some(now), true) => limiter.peek_at(key, cost, now),
            })
        })??;
        arguments.limiters.tell(&decision);
        Ok(ptr::null_mut())
    }
}

/// `attempt(limiter, key, cost, leftMs, peek)`: the one rule of waiting. 0 if the request was allowed, and charged unless
/// this is a peek; -1 if waiting does not help; else for how many milliseconds to wait.
struct Attempt;

impl Short<5> for Attempt {
    const NAME: &CStr = c"attempt";

    fn call(arguments: &Arguments<'_, 5>) -> Result<sys::napi_value, Error> {
        let cost = arguments.at(2).count("cost")?;
        let left = arguments
            .at(3)
            .optional()
            .map(|left| left.milliseconds("timeoutMs"))
            .transpose()?;
        let peek = arguments.at(4).truth();
        let decision = arguments.at(1).key(|key| {
            arguments.with(|limiter| {
                if peek {
                    limiter.peek_n(key, cost)
                } else {
                    limiter.check_n(key, cost)
                }
            })
        })??;
        Ok(double(
            arguments.env,
            match Wait::after(&decision, left) {
                Wait::Allowed => 0.0,
                Wait::GiveUp => -1.0,
                Wait::Sleep(time) => crate::values::milliseconds(time),
            },
        ))
    }
}

/// Many keys in one piece of memory.
struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Keys {
    /// From `count` keys joined to one string and their lengths: less than half the price of asking for each element of an
    /// array. The array of lengths may be longer.
    fn joined(joined: Js, lengths: Js, count: Js) -> Result<Option<Self>, Error> {
        let Some(units) = units(joined.env, joined.value) else {
            return Ok(None);
        };
        let wrong = || Error::Internal("joined keys and their lengths do not fit".to_owned());
        let (data, room) = typed(lengths.env, lengths.value, sys::TypedarrayType::uint32_array).ok_or_else(wrong)?;
        let count = usize::try_from(count.count("count")?).map_err(|_| wrong())?;
        if count > room {
            return Err(wrong());
        }
        let mut ends = Vec::with_capacity(count);
        let mut end = 0_usize;
        for index in 0..count {
            // Safety: the engine says that no fewer numbers lie there, aligned for their type, and no JavaScript runs.
            let length = unsafe { data.cast::<u32>().add(index).read() };
            end = end.checked_add(length as usize).ok_or_else(wrong)?;
            ends.push(end);
        }
        if end != units.len() {
            return Err(wrong());
        }
        if units.iter().fold(0, |all, unit| all | unit) < 0x80 {
            // Cast: ASCII.
            let bytes = units.iter().map(|&unit| unit as u8).collect();
            return Ok(Some(Keys { bytes, ends }));
        }
        let mut bytes = Vec::with_capacity(units.len() * 2);
        let mut start = 0;
        for end in &mut ends {
            append(&units[start..*end], &mut bytes);
            start = std::mem::replace(end, bytes.len());
        }
        Ok(Some(Keys { bytes, ends }))
    }

    /// From an array of keys of any kind. Reading it may run code of the caller's.
    fn listed(array: Js) -> Result<Self, Error> {
        let (mut is_array, mut length) = (false, 0);
        // Safety: a value of this environment and places for the results.
        unsafe {
            sys::napi_is_array(array.env, array.value, &raw mut is_array);
            sys::napi_get_array_length(array.env, array.value, &raw mut length);
        }
        if !is_array {
            return Err(Error::Argument("keys takes an array of keys".to_owned()));
        }
        let mut keys = Keys {
            bytes: Vec::new(),
            ends: Vec::new(),
        };
        for index in 0..length {
            let mut scope = ptr::null_mut();
            // Safety: the scope is closed below, in the same call. Without it every element would stay alive to the end.
            unsafe { sys::napi_open_handle_scope(array.env, &raw mut scope) };
            let appended = element(array.env, array.value, index)
                .ok_or_else(|| Error::Argument(format!("key {index} could not be read")))
                .and_then(|key| with_key(array.env, key, |key| keys.bytes.extend_from_slice(key)));
            // Safety: the scope that was opened above; nothing of it is used any more.
            unsafe { sys::napi_close_handle_scope(array.env, scope) };
            appended?;
            keys.ends.push(keys.bytes.len());
        }
        Ok(keys)
    }

    fn of(keys: Js, lengths: Js, count: Js) -> Result<Self, Error> {
        match Keys::joined(keys, lengths, count)? {
            Some(keys) => Ok(keys),
            None => Keys::listed(keys),
        }
    }

    fn slices(&self) -> Vec<&[u8]> {
        let mut start = 0;
        let mut slice = |&end| &self.bytes[std::mem::replace(&mut start, end)..end];
        self.ends.iter().map(&mut slice).collect()
    }
}

fn too_short(keys: usize, places: usize) -> Error {
    Error::Lengths(format!("{keys} keys came with {places} places: give one for each key"))
}

/// `allowedMany(limiter, keys, lengths, count, out)`: ones and zeros in a `Uint8Array`.
struct AllowedMany;

impl Short<5> for AllowedMany {
    const NAME: &CStr = c"allowedMany";

    fn call(arguments: &Arguments<'_, 5>) -> Result<sys::napi_value, Error> {
        let keys = Keys::of(arguments.at(1), arguments.at(2), arguments.at(3))?;
        let out = arguments.at(4);
        let (data, places) = typed(out.env, out.value, sys::TypedarrayType::uint8_array)
            .ok_or_else(|| Error::Argument("the place for the answers must be a Uint8Array".to_owned()))?;
        if places < keys.ends.len() {
            return Err(too_short(keys.ends.len(), places));
        }
        let mut allowed = vec![false; keys.ends.len()];
        arguments.with(|limiter| limiter.allowed_many(&keys.slices(), &mut allowed))??;
        // Safety: there are as many places, and a `bool` is a byte of 0 or 1. No JavaScript has run since they were found.
        unsafe { ptr::copy_nonoverlapping(allowed.as_ptr().cast::<u8>(), data, allowed.len()) };
        Ok(ptr::null_mut())
    }
}

/// `checkMany(limiter, keys, lengths, count, costs, out)`: five numbers for each key in a `Float64Array`.
struct CheckMany;

impl Short<6> for CheckMany {
    const NAME: &CStr = c"checkMany";

    fn call(arguments: &Arguments<'_, 6>) -> Result<sys::napi_value, Error> {
        let keys = Keys::of(arguments.at(1), arguments.at(2), arguments.at(3))?;
        let costs = match arguments.at(4).optional() {
            None => None,
            Some(costs) => Some(read_costs(costs)?),
        };
        let out = arguments.at(5);
        let (data, places) = typed(out.env, out.value, sys::TypedarrayType::float64_array)
            .ok_or_else(|| Error::Internal("the place for decisions is of the wrong kind".to_owned()))?;
        if places < keys.ends.len() * DECISION_NUMBERS {
            return Err(too_short(keys.ends.len(), places / DECISION_NUMBERS));
        }
        let mut decisions = vec![Decision::default(); keys.ends.len()];
        arguments.with(|limiter| match costs {
            None => limiter.check_many(&keys.slices(), &mut decisions),
            Some(costs) => limiter.check_many_n(&keys.slices(), &costs, &mut decisions),
        })??;
        for (index, decision) in decisions.iter().enumerate() {
            // Safety: there are five aligned places for each key. No JavaScript has run since they were found.
            unsafe {
                data.cast::<[f64; DECISION_NUMBERS]>()
                    .add(index)
                    .write(numbers(decision))
            };
        }
        Ok(ptr::null_mut())
    }
}

fn read_costs(costs: Js) -> Result<Vec<u64>, Error> {
    let (data, count) = typed(costs.env, costs.value, sys::TypedarrayType::float64_array)
        .ok_or_else(|| Error::Internal("costs are of the wrong kind".to_owned()))?;
    // Safety: the engine says that `count` numbers lie there, aligned for their type, and no JavaScript runs.
    let read = |index| unsafe { data.cast::<f64>().add(index).read() };
    (0..count)
        .map(|index| crate::values::whole(read(index), &format!("cost {index}")))
        .collect()
}
