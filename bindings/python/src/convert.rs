//! Python's numbers as costs, times and options.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use ratelimit::options::OptionValue;

use crate::error::argument;
use crate::limit::Limit;

/// A cost: a whole number from 0. What is too large for the engine is above every burst, and so is the largest it takes.
pub(crate) fn cost(given: Option<&Bound<'_, PyAny>>) -> PyResult<u64> {
    given.map_or(Ok(1), a_cost)
}

pub(crate) fn a_cost(given: &Bound<'_, PyAny>) -> PyResult<u64> {
    let Some(number) = given.cast::<PyInt>().ok().filter(|_| !given.is_instance_of::<PyBool>()) else {
        return Err(argument(
            given.py(),
            format!("cost is {}: it takes a whole number from 0", given.get_type().name()?),
        ));
    };
    if let Ok(cost) = number.extract::<u64>() {
        return Ok(cost);
    }
    if number.lt(0)? {
        return Err(argument(
            given.py(),
            format!(
                "cost is {}: it takes a whole number from 0; refund() gives requests back",
                shown(given)
            ),
        ));
    }
    Ok(u64::MAX)
}

/// A time or duration in seconds from 0, rounded to the nearest nanosecond.
pub(crate) fn seconds(name: &str, given: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let is_number = given.is_instance_of::<PyFloat>() || given.is_instance_of::<PyInt>();
    if !is_number || given.is_instance_of::<PyBool>() {
        return Err(argument(
            given.py(),
            format!(
                "{name} is {}: it takes a number of seconds from 0",
                given.get_type().name()?
            ),
        ));
    }
    // Whole seconds stay exact, however many they are.
    if let Ok(whole) = given.extract::<u64>() {
        return Ok(Duration::from_secs(whole));
    }
    given
        .extract::<f64>()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| {
            argument(
                given.py(),
                format!("{name} is {}: it takes a number of seconds from 0", shown(given)),
            )
        })
}

/// A `now` that may be left out.
pub(crate) fn now(given: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Duration>> {
    match given {
        Some(given) if !given.is_none() => seconds("now", given).map(Some),
        _ => Ok(None),
    }
}

/// A timeout: none is for as long as it takes, and so is an infinite one.
pub(crate) fn timeout(given: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Duration>> {
    match given {
        Some(given) if given.extract::<f64>().is_ok_and(|seconds| seconds == f64::INFINITY) => Ok(None),
        Some(given) => seconds("timeout", given).map(Some),
        None => Ok(None),
    }
}

/// In seconds, as Python has durations. Never is infinite.
pub(crate) fn as_seconds(duration: Duration) -> f64 {
    if duration == ratelimit::Decision::NEVER {
        f64::INFINITY
    } else {
        duration.as_secs_f64()
    }
}

/// The value of an option as the user wrote it. Whether the option takes it, and what to say if not, is the crate's.
pub(crate) fn option(given: &Bound<'_, PyAny>) -> PyResult<OptionValue> {
    if given.is_none() {
        return Ok(OptionValue::Nothing);
    }
    if let Ok(truth) = given.cast::<PyBool>() {
        return Ok(OptionValue::Bool(truth.is_true()));
    }
    if given.is_instance_of::<PyInt>() {
        return Ok(given
            .extract::<i128>()
            .map_or_else(|_| OptionValue::Other(shown(given)), OptionValue::Int));
    }
    if given.is_instance_of::<PyFloat>() {
        return Ok(OptionValue::Float(given.extract()?));
    }
    if let Some(text) = limit_text(given)? {
        return Ok(OptionValue::Text(text));
    }
    if given.is_instance_of::<PyList>() || given.is_instance_of::<PyTuple>() {
        let mut texts = Vec::new();
        for item in given.try_iter()? {
            let item = item?;
            match limit_text(&item)? {
                Some(text) => texts.push(text),
                None => {
                    return Ok(OptionValue::Other(format!(
                        "a list with {} in it",
                        item.get_type().name()?
                    )));
                }
            }
        }
        return Ok(OptionValue::Texts(texts));
    }
    if let Ok(table) = given.cast::<PyDict>() {
        let mut entries = Vec::new();
        for (name, value) in table {
            let Ok(name) = name.cast::<PyString>() else {
                return Ok(OptionValue::Other("a dict whose keys are not all str".to_owned()));
            };
            // A dict in a dict is in no option: what is said about it needs no depth.
            let value = if value.is_instance_of::<PyDict>() {
                OptionValue::Other("a dict".to_owned())
            } else {
                option(&value)?
            };
            entries.push((name.to_string_lossy().into_owned(), value));
        }
        return Ok(OptionValue::Table(entries));
    }
    // A path by any of its types: `os.fspath` knows them.
    if given.hasattr("__fspath__")? {
        let path = given.py().import("os")?.call_method1("fsdecode", (given,))?;
        return Ok(path.extract::<String>().map_or_else(
            |_| OptionValue::Other("a path that is not text".to_owned()),
            OptionValue::Text,
        ));
    }
    Ok(OptionValue::Other(given.get_type().name()?.to_string()))
}

/// A text, or a limit as its text.
fn limit_text(given: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    if let Ok(limit) = given.cast::<Limit>() {
        return Ok(Some(limit.get().0.to_string()));
    }
    match given.cast::<PyString>() {
        // Lone surrogates are in no option and no limit: the sentence about the wrong value shows what was replaced.
        Ok(text) => Ok(Some(text.to_string_lossy().into_owned())),
        Err(_) => Ok(None),
    }
}

/// A value in a sentence: short, whatever it is.
fn shown(given: &Bound<'_, PyAny>) -> String {
    match given.repr() {
        Ok(repr) => repr.to_string_lossy().chars().take(80).collect(),
        Err(_) => "a number too large to show".to_owned(),
    }
}
