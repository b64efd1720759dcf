//! `vectors/*.json` as a table in C, so that the test in C needs no JSON parser.
//!
//! Whatever is in a file must be known here: a file, a field or an operation without a reader is an error.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use crate::root;

type Object = Map<String, Value>;

pub(crate) fn write(folder: &Path) -> Result<(), String> {
    let mut table = Table::default();
    let entries = fs::read_dir(root().join("vectors")).map_err(|error| error.to_string())?;
    let mut files: Vec<_> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    if files.len() < 6 {
        return Err(format!("only {} files in vectors/", files.len()));
    }
    for path in files {
        let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
        let value: Value = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        table
            .file(&value)
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    fs::write(folder.join("vectors.h"), table.text()).map_err(|error| error.to_string())
}

#[derive(Default)]
struct Table {
    calls: String,
    call_count: usize,
    cases: String,
    polls: String,
    texts: String,
    client_ips: String,
}

/// An object's fields, of which none may be left over.
fn fields<'a, const N: usize>(value: &'a Value, names: [&str; N]) -> Result<[&'a Value; N], String> {
    let object: &Object = value.as_object().ok_or_else(|| format!("{value} is no object"))?;
    if let Some(unread) = object.keys().find(|name| !names.contains(&name.as_str())) {
        return Err(format!("nobody reads \"{unread}\" of {value}"));
    }
    let mut found = [&Value::Null; N];
    for (place, name) in found.iter_mut().zip(names) {
        *place = object.get(name).unwrap_or(&Value::Null);
    }
    Ok(found)
}

fn list(value: &Value) -> Result<&[Value], String> {
    match value {
        Value::Null => Ok(&[]),
        _ => value
            .as_array()
            .map(Vec::as_slice)
            .ok_or_else(|| format!("{value} is no list")),
    }
}

/// A number as C writes it.
fn number(value: &Value) -> Result<String, String> {
    let number: u64 = match value {
        Value::String(text) if text == "never" => u64::MAX,
        Value::String(text) => text.parse().map_err(|_| format!("{value} is no number"))?,
        _ => value.as_u64().ok_or_else(|| format!("{value} is no number"))?,
    };
    Ok(format!("UINT64_C({number})"))
}

/// A text as C writes it, and its length in bytes.
fn text(value: &Value) -> Result<(String, usize), String> {
    let text = value.as_str().ok_or_else(|| format!("{value} is no text"))?;
    let mut written = String::from("\"");
    for byte in text.bytes() {
        // Three digits, so that no digit that follows is taken for a part of it.
        let _ = write!(written, "\\{byte:03o}");
    }
    written.push('"');
    Ok((written, text.len()))
}

fn limits(value: &Value) -> Result<String, String> {
    let texts = match value {
        Value::Array(texts) => texts.as_slice(),
        one => std::slice::from_ref(one),
    };
    let texts = texts
        .iter()
        .map(|one| text(one).map(|(text, _)| text))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(format!("{{{}}}, {}", texts.join(", "), texts.len()))
}

impl Table {
    fn file(&mut self, file: &Value) -> Result<(), String> {
        let [about, cases, polls, accepted, refused, client_ips] =
            fields(file, ["about", "cases", "polls", "accepted", "refused", "client_ips"])?;
        about.as_str().ok_or("there is no \"about\"")?;
        for case in list(cases)? {
            self.case(case)?;
        }
        for poll in list(polls)? {
            self.poll(poll)?;
        }
        for one in list(client_ips)? {
            self.client_ip(one)?;
        }
        for one in list(accepted)? {
            self.accepted(one)?;
        }
        for one in list(refused)? {
            let [refused, kind, why] = fields(one, ["text", "kind", "why"])?;
            // C tells errors of limits apart by their sentence, not by their kind.
            text(kind)?;
            text(why)?;
            self.text_of(refused, "0, 0, 0, 0, 0, NULL")?;
        }
        Ok(())
    }

    fn case(&mut self, case: &Value) -> Result<(), String> {
        let [name, why, limit, calls] = fields(case, ["name", "why", "limit", "calls"])?;
        text(why)?;
        let calls = list(calls)?;
        let _ = writeln!(
            self.cases,
            "    {{{}, {}, {}, {}}},",
            text(name)?.0,
            limits(limit)?,
            self.call_count,
            calls.len()
        );
        self.call_count += calls.len();
        for call in calls {
            let [op, key, cost, now, expected] = fields(call, ["op", "key", "cost", "now_ns", "expected"])?;
            let op = match op.as_str() {
                Some("check") => "CHECK",
                Some("peek") => "PEEK",
                Some("refund") => "REFUND",
                Some("reset") => "RESET",
                _ => return Err(format!("there is no operation {op}")),
            };
            let cost = if op == "RESET" { "0".to_owned() } else { number(cost)? };
            let (key, len) = text(key)?;
            let expected = match expected.as_object() {
                None => "0, {0, 0, 0, 0, 0}".to_owned(),
                Some(object) if object.is_empty() => "0, {0, 0, 0, 0, 0}".to_owned(),
                Some(_) => {
                    let [allowed, limit, remaining, retry_after, reset_after] = fields(
                        expected,
                        ["allowed", "limit", "remaining", "retry_after_ns", "reset_after_ns"],
                    )?;
                    let allowed = allowed.as_bool().ok_or("\"allowed\" is missing")?;
                    format!(
                        "1, {{{}, {}, {}, {}, {}}}",
                        u8::from(allowed),
                        number(limit)?,
                        number(remaining)?,
                        number(retry_after)?,
                        number(reset_after)?
                    )
                }
            };
            let _ = writeln!(
                self.calls,
                "    {{{op}, {key}, {len}, {cost}, {}, {expected}}},",
                number(now)?
            );
        }
        Ok(())
    }

    fn poll(&mut self, poll: &Value) -> Result<(), String> {
        let [name, why, limit, start, every, calls, cost, min, max] = fields(
            poll,
            [
                "name",
                "why",
                "limit",
                "start_ns",
                "every_ns",
                "calls",
                "cost",
                "allowed_min",
                "allowed_max",
            ],
        )?;
        if !why.is_null() {
            text(why)?;
        }
        let mut row = vec![text(name)?.0, limits(limit)?];
        for value in [start, every, calls, cost, min, max] {
            row.push(number(value)?);
        }
        let _ = writeln!(self.polls, "    {{{}}},", row.join(", "));
        Ok(())
    }

    fn client_ip(&mut self, one: &Value) -> Result<(), String> {
        let names = ["why", "trusted", "header", "ipv6_prefix", "peer", "values", "expected"];
        let [why, trusted, header, ipv6_prefix, peer, values, expected] = fields(one, names)?;
        text(why)?;
        let or_null = |value: &Value| match value {
            Value::Null => Ok("NULL".to_owned()),
            value => text(value).map(|(text, _)| text),
        };
        let values: Option<Vec<&str>> = list(values)?.iter().map(Value::as_str).collect();
        let value = Value::from(values.ok_or("a value is no text")?.join(", "));
        let _ = writeln!(
            self.client_ips,
            "    {{{}, {}, {}, {}, {}, {}}},",
            text(trusted)?.0,
            or_null(header)?,
            ipv6_prefix.as_u64().unwrap_or(0),
            text(peer)?.0,
            text(&value)?.0,
            or_null(expected)?
        );
        Ok(())
    }

    fn accepted(&mut self, accepted: &Value) -> Result<(), String> {
        let [given, rate_limit, window, burst, strict, canonical] = fields(
            accepted,
            ["text", "rate_limit", "window_ns", "burst", "strict", "canonical"],
        )?;
        let strict = strict.as_bool().ok_or("\"strict\" is missing")?;
        let row = format!(
            "1, {}, {}, {}, {}, {}",
            number(rate_limit)?,
            number(window)?,
            number(burst)?,
            u8::from(strict),
            text(canonical)?.0
        );
        self.text_of(given, &row)
    }

    fn text_of(&mut self, given: &Value, row: &str) -> Result<(), String> {
        // A text with a zero byte cannot be handed over in C: vectors/README.md.
        if !given.as_str().is_some_and(|text| text.contains('\0')) {
            let _ = writeln!(self.texts, "    {{{}, {row}}},", text(given)?.0);
        }
        Ok(())
    }

    fn text(&self) -> String {
        format!(
            "static const struct call calls[] = {{\n{}}};\n\
             static const struct a_case cases[] = {{\n{}}};\n\
             static const struct poll polls[] = {{\n{}}};\n\
             static const struct a_text texts[] = {{\n{}}};\n\
             static const struct an_ip client_ips[] = {{\n{}}};\n",
            self.calls, self.cases, self.polls, self.texts, self.client_ips
        )
    }
}
