//! A key's bytes, from a string, a number or a buffer.

use std::mem::MaybeUninit;
use std::ptr;

use napi_sys as sys;
use ratelimit::Error;

use crate::values::describe;

/// UTF-16 units that are read without an allocation. The engine writes a zero after the last one.
const SHORT: usize = 192;
/// Above it a number is not told from its neighbours any more.
const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;

/// Hands the bytes of a key to `work`.
///
/// A string is its UTF-8 bytes. Half a surrogate pair, which UTF-8 cannot say, is the three bytes that it would have if it
/// could (WTF-8), so that different strings are different keys. It is read as UTF-16 for that, which is no slower than
/// asking the engine for UTF-8, and faster for short ASCII. A safe integer is its decimal digits. A buffer is its bytes.
///
/// Errors: anything else.
#[inline(always)]
pub(crate) fn with_key<R>(
    env: sys::napi_env,
    value: sys::napi_value,
    work: impl FnOnce(&[u8]) -> R,
) -> Result<R, Error> {
    let mut units = [MaybeUninit::<u16>::uninit(); SHORT];
    let mut length = 0;
    // Safety: `units` has room for `SHORT` units, of which the engine writes at most so many, the ending zero included.
    let status =
        unsafe { sys::napi_get_value_string_utf16(env, value, units.as_mut_ptr().cast(), SHORT, &raw mut length) };
    if status != sys::Status::napi_ok || length + 1 >= SHORT {
        return unusual(env, value, status).map(|bytes| work(&bytes));
    }
    // Safety: the engine has written `length` units, fewer than `SHORT`.
    let units = unsafe { std::slice::from_raw_parts(units.as_ptr().cast::<u16>(), length) };
    let mut bytes = [MaybeUninit::<u8>::uninit(); SHORT];
    let mut all = 0;
    for (byte, &unit) in bytes.iter_mut().zip(units) {
        all |= unit;
        // Cast: cut off only where the text is not ASCII, and the bytes are not used then.
        byte.write(unit as u8);
    }
    if all > 0x7f {
        return Ok(work(&wide(units)));
    }
    // Safety: the loop has written as many bytes as there are units.
    Ok(work(unsafe {
        std::slice::from_raw_parts(bytes.as_ptr().cast::<u8>(), length)
    }))
}

#[cold]
#[inline(never)]
fn wide(units: &[u16]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(units.len() * 3);
    append(units, &mut bytes);
    bytes
}

/// Appends the WTF-8 of UTF-16 units.
pub(crate) fn append(units: &[u16], bytes: &mut Vec<u8>) {
    for character in char::decode_utf16(units.iter().copied()) {
        match character {
            Ok(character) => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            Err(half) => {
                let unit = half.unpaired_surrogate();
                // Casts: 4, 6 and 6 bits.
                bytes.extend([
                    0xe0 | (unit >> 12) as u8,
                    0x80 | (unit >> 6 & 0x3f) as u8,
                    0x80 | (unit & 0x3f) as u8,
                ]);
            }
        }
    }
}

/// The units of a string of any length.
pub(crate) fn units(env: sys::napi_env, value: sys::napi_value) -> Option<Vec<u16>> {
    let mut length = 0;
    // Safety: without a buffer only the length is told.
    let status = unsafe { sys::napi_get_value_string_utf16(env, value, ptr::null_mut(), 0, &raw mut length) };
    if status != sys::Status::napi_ok {
        return None;
    }
    let mut units: Vec<u16> = Vec::with_capacity(length + 1);
    // Safety: there is room for the units and the zero after them; the engine says how many it wrote.
    unsafe {
        let status = sys::napi_get_value_string_utf16(env, value, units.as_mut_ptr(), length + 1, &raw mut length);
        if status != sys::Status::napi_ok {
            return None;
        }
        units.set_len(length);
    }
    Some(units)
}

/// Long strings, numbers, buffers, and what is none of them.
#[cold]
#[inline(never)]
fn unusual(env: sys::napi_env, value: sys::napi_value, status: sys::napi_status) -> Result<Vec<u8>, Error> {
    if status == sys::Status::napi_ok
        && let Some(units) = units(env, value)
    {
        return Ok(if units.iter().all(|&unit| unit < 0x80) {
            // Cast: ASCII.
            units.iter().map(|&unit| unit as u8).collect()
        } else {
            wide(&units)
        });
    }
    if let Some(number) = crate::values::number(env, value) {
        if number.fract() == 0.0 && number.abs() <= MAX_SAFE_INTEGER {
            // Cast: whole and small enough; it also makes 0 of -0.
            return Ok((number as i64).to_string().into_bytes());
        }
        return Err(Error::Argument(format!(
            "the key is {}: a number that is a key must be a safe integer; use a text for others",
            crate::values::shown(number)
        )));
    }
    if let Some(bytes) = crate::values::bytes(env, value) {
        return Ok(bytes.to_vec());
    }
    Err(Error::Argument(format!(
        "the key is {}: it takes a string, a number, a Buffer or a Uint8Array",
        describe(env, value)
    )))
}
