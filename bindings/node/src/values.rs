//! JavaScript's values as ours, and ours as JavaScript's.

use std::ptr;
use std::time::Duration;

use napi::bindgen_prelude::{FromNapiValue, ToNapiValue, TypeName, ValidateNapiValue};
use napi::{Result as NapiResult, ValueType};
use napi_sys as sys;
use ratelimit::options::OptionValue;
use ratelimit::{Decision, Error, Limit};

/// A value as it came, to be read by our own rules, so that every mistake gets a sentence of ours.
#[derive(Clone, Copy)]
pub struct Js {
    pub(crate) env: sys::napi_env,
    pub(crate) value: sys::napi_value,
}

impl TypeName for Js {
    fn type_name() -> &'static str {
        "any"
    }

    fn value_type() -> ValueType {
        ValueType::Unknown
    }
}

impl ValidateNapiValue for Js {}

impl FromNapiValue for Js {
    unsafe fn from_napi_value(env: sys::napi_env, value: sys::napi_value) -> NapiResult<Self> {
        Ok(Js { env, value })
    }
}

impl ToNapiValue for Js {
    unsafe fn to_napi_value(_env: sys::napi_env, js: Self) -> NapiResult<sys::napi_value> {
        Ok(js.value)
    }
}

impl Js {
    pub(crate) fn key<R>(self, work: impl FnOnce(&[u8]) -> R) -> Result<R, Error> {
        crate::key::with_key(self.env, self.value, work)
    }

    /// Nothing for `undefined` and `null`.
    pub(crate) fn optional(self) -> Option<Js> {
        (!matches!(
            kind(self.env, self.value),
            sys::ValueType::napi_undefined | sys::ValueType::napi_null
        ))
        .then_some(self)
    }

    /// A count of requests: whole, from 0. Counts beyond 2^64 are 2^64 - 1.
    pub(crate) fn count(self, name: &str) -> Result<u64, Error> {
        match number(self.env, self.value) {
            Some(count) => whole(count, name),
            None => Err(Error::Argument(format!(
                "{name} is {}: it takes a whole number from 0",
                self.describe()
            ))),
        }
    }

    /// Milliseconds as a duration, to the nearest nanosecond.
    pub(crate) fn milliseconds(self, name: &str) -> Result<Duration, Error> {
        number(self.env, self.value).and_then(duration).ok_or_else(|| {
            Error::Argument(format!(
                "{name} is {}: it takes milliseconds, a number from 0",
                self.describe()
            ))
        })
    }

    pub(crate) fn text(self, name: &str) -> Result<String, Error> {
        string(self.env, self.value)
            .ok_or_else(|| Error::Argument(format!("{name} is {}: it takes a text", self.describe())))
    }

    /// A limit as text.
    pub(crate) fn limit(self) -> Result<Limit, Error> {
        Ok(self.text("the limit")?.parse::<Limit>()?)
    }

    /// Whether it is `true`.
    pub(crate) fn truth(self) -> bool {
        let mut truth = false;
        // Safety: a value of this environment and a place for the result, which stays false for what is no boolean.
        unsafe { sys::napi_get_value_bool(self.env, self.value, &raw mut truth) };
        truth
    }

    /// The value of an option.
    pub(crate) fn option(self) -> OptionValue {
        match kind(self.env, self.value) {
            sys::ValueType::napi_undefined | sys::ValueType::napi_null => OptionValue::Nothing,
            sys::ValueType::napi_boolean => OptionValue::Bool(self.truth()),
            _ => {
                if let Some(number) = number(self.env, self.value).filter(|number| number.is_finite()) {
                    OptionValue::Float(number)
                } else if let Some(text) = string(self.env, self.value) {
                    OptionValue::Text(text)
                } else if let Some(texts) = elements(self.env, self.value)
                    .and_then(|all| all.into_iter().map(|each| string(self.env, each)).collect())
                {
                    OptionValue::Texts(texts)
                } else if let Some(table) = self.table() {
                    OptionValue::Table(table)
                } else {
                    OptionValue::Other(self.describe())
                }
            }
        }
    }

    /// The own properties of an object that is no array. Reading them may run code of the caller's.
    fn table(self) -> Option<Vec<(String, OptionValue)>> {
        if kind(self.env, self.value) != sys::ValueType::napi_object || elements(self.env, self.value).is_some() {
            return None;
        }
        let names = property_names(self.env, self.value)?;
        let entry = |name: sys::napi_value| {
            let mut value = ptr::null_mut();
            // Safety: values of this environment and a place for the result.
            let status = unsafe { sys::napi_get_property(self.env, self.value, name, &raw mut value) };
            let value = Js { env: self.env, value };
            // An object in an object is in no option: what is said about it needs no depth.
            let value = if kind(self.env, value.value) == sys::ValueType::napi_object
                && elements(self.env, value.value).is_none()
            {
                OptionValue::Other("an object".to_owned())
            } else {
                value.option()
            };
            (status == sys::Status::napi_ok).then_some((string(self.env, name)?, value))
        };
        elements(self.env, names)?.into_iter().map(entry).collect()
    }

    fn describe(self) -> String {
        describe(self.env, self.value)
    }
}

pub(crate) fn whole(count: f64, name: &str) -> Result<u64, Error> {
    if count.fract() == 0.0 && count >= 0.0 {
        // Cast: whole, and saturating at the end, where no burst reaches.
        return Ok(count as u64);
    }
    Err(Error::Argument(format!(
        "{name} is {}: it takes a whole number from 0",
        shown(count)
    )))
}

/// A time of so many milliseconds; nothing if it is negative, not a number, or longer than can be told.
pub(crate) fn duration(milliseconds: f64) -> Option<Duration> {
    // Whole milliseconds apart from the rest, which is exact: times are then right to the nanosecond up to 2^32 ms.
    let whole = milliseconds.trunc();
    let rest_ns = ((milliseconds - whole) * 1e6).round();
    if milliseconds < 0.0 || !(0.0..1.8e19).contains(&whole) {
        return None;
    }
    // Casts: in range by the line above.
    Some(Duration::from_millis(whole as u64).saturating_add(Duration::from_nanos(rest_ns as u64)))
}

/// Milliseconds; infinite for never.
#[inline]
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    if duration == Decision::NEVER {
        return f64::INFINITY;
    }
    duration.as_secs() as f64 * 1e3 + f64::from(duration.subsec_nanos()) / 1e6
}

/// A decision as the numbers in which it goes to JavaScript.
#[inline]
pub(crate) fn numbers(decision: &Decision) -> [f64; crate::limiters::DECISION_NUMBERS] {
    [
        f64::from(u8::from(decision.allowed)),
        decision.limit as f64,
        decision.remaining as f64,
        milliseconds(decision.retry_after),
        milliseconds(decision.reset_after),
    ]
}

#[inline]
pub(crate) fn boolean(env: sys::napi_env, truth: bool) -> sys::napi_value {
    let mut value = ptr::null_mut();
    // Safety: a place for the result.
    unsafe { sys::napi_get_boolean(env, truth, &raw mut value) };
    value
}

pub(crate) fn double(env: sys::napi_env, number: f64) -> sys::napi_value {
    let mut value = ptr::null_mut();
    // Safety: a place for the result.
    unsafe { sys::napi_create_double(env, number, &raw mut value) };
    value
}

fn kind(env: sys::napi_env, value: sys::napi_value) -> sys::napi_valuetype {
    let mut kind = sys::ValueType::napi_undefined;
    // Safety: a value of this environment (or null, which is refused) and a place for the result.
    unsafe { sys::napi_typeof(env, value, &raw mut kind) };
    kind
}

#[inline]
pub(crate) fn number(env: sys::napi_env, value: sys::napi_value) -> Option<f64> {
    let mut number = 0.0;
    // Safety: a value of this environment (or null, which is refused) and a place for the result.
    let status = unsafe { sys::napi_get_value_double(env, value, &raw mut number) };
    (status == sys::Status::napi_ok).then_some(number)
}

/// A text; half surrogates become the replacement character.
fn string(env: sys::napi_env, value: sys::napi_value) -> Option<String> {
    crate::key::units(env, value).map(|units| String::from_utf16_lossy(&units))
}

/// The names of an object's own properties that can be listed, as an array.
fn property_names(env: sys::napi_env, object: sys::napi_value) -> Option<sys::napi_value> {
    let mut names = ptr::null_mut();
    // Safety: values of this environment and a place for the result.
    let status = unsafe {
        sys::napi_get_all_property_names(
            env,
            object,
            sys::KeyCollectionMode::own_only,
            sys::KeyFilter::enumerable | sys::KeyFilter::skip_symbols,
            sys::KeyConversion::numbers_to_strings,
            &raw mut names,
        )
    };
    (status == sys::Status::napi_ok).then_some(names)
}

/// The elements of an array. Reading them may run code of the caller's.
pub(crate) fn elements(env: sys::napi_env, value: sys::napi_value) -> Option<Vec<sys::napi_value>> {
    let (mut is_array, mut length) = (false, 0);
    // Safety: a value of this environment and places for the results.
    unsafe {
        if sys::napi_is_array(env, value, &raw mut is_array) != sys::Status::napi_ok
            || !is_array
            || sys::napi_get_array_length(env, value, &raw mut length) != sys::Status::napi_ok
        {
            return None;
        }
    }
    (0..length).map(|index| element(env, value, index)).collect()
}

pub(crate) fn element(env: sys::napi_env, array: sys::napi_value, index: u32) -> Option<sys::napi_value> {
    let mut element = ptr::null_mut();
    // Safety: values of this environment and a place for the result.
    let status = unsafe { sys::napi_get_element(env, array, index, &raw mut element) };
    (status == sys::Status::napi_ok).then_some(element)
}

/// Elements of a typed array of the wanted kind: where they are and how many.
pub(crate) fn typed(
    env: sys::napi_env,
    value: sys::napi_value,
    wanted: sys::napi_typedarray_type,
) -> Option<(*mut u8, usize)> {
    let (mut is_typed, mut found, mut length) = (false, 0, 0);
    let mut data = ptr::null_mut();
    // Safety: a value of this environment and places for the results; what is not asked for may be null.
    unsafe {
        if sys::napi_is_typedarray(env, value, &raw mut is_typed) != sys::Status::napi_ok
            || !is_typed
            || sys::napi_get_typedarray_info(
                env,
                value,
                &raw mut found,
                &raw mut length,
                &raw mut data,
                ptr::null_mut(),
                ptr::null_mut(),
            ) != sys::Status::napi_ok
        {
            return None;
        }
    }
    if found != wanted {
        return None;
    }
    if data.is_null() {
        length = 0;
    }
    Some((data.cast(), length))
}

/// The bytes of a Buffer or a Uint8Array, for as long as no JavaScript runs.
pub(crate) fn bytes<'a>(env: sys::napi_env, value: sys::napi_value) -> Option<&'a [u8]> {
    let (data, length) = typed(env, value, sys::TypedarrayType::uint8_array)?;
    if length == 0 {
        return Some(&[]);
    }
    // Safety: the engine says that `length` bytes lie there; they stay until JavaScript runs again, and callers copy or
    // hash them before that.
    Some(unsafe { std::slice::from_raw_parts(data, length) })
}

/// A number as JavaScript writes it, where that differs.
pub(crate) fn shown(number: f64) -> String {
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    number.to_string()
}

/// What a value is, for a sentence about it.
pub(crate) fn describe(env: sys::napi_env, value: sys::napi_value) -> String {
    if let Some(number) = number(env, value) {
        return shown(number);
    }
    if let Some(text) = string(env, value) {
        let shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
        return format!("\"{shown}\"");
    }
    let mut is_array = false;
    // Safety: a value of this environment (or null, which is refused) and a place for the result.
    unsafe { sys::napi_is_array(env, value, &raw mut is_array) };
    match kind(env, value) {
        _ if is_array => "an array",
        sys::ValueType::napi_undefined => "undefined",
        sys::ValueType::napi_null => "null",
        sys::ValueType::napi_boolean => "a boolean",
        sys::ValueType::napi_symbol => "a symbol",
        sys::ValueType::napi_function => "a function",
        sys::ValueType::napi_object => "an object",
        _ => "a value of another kind",
    }
    .to_owned()
}
