//! `include/ratelimit.h`.

use std::fs;
use std::path::Path;

use crate::root;

const TOP: &str = "\
/*
 * ratelimit: one rate limit over every thread, process and node of a service, decided inside the process.
 *
 * Made by `cargo xtask header` from the sources in ffi/src: do not edit. docs/c.md has the conventions and an example.
 *
 *     ratelimit_limiter limiter;
 *     ratelimit_config *config = ratelimit_config_new(100, UINT64_C(60000000000));
 *     if (ratelimit_open(config, &limiter) != RATELIMIT_OK) ...
 *     ratelimit_config_free(config);
 *     if (ratelimit_is_allowed(limiter, (const uint8_t *)\"client-7\", 8)) { ... }
 *     ratelimit_close(limiter);
 */";

fn generate() -> Result<String, String> {
    let version = env!("CARGO_PKG_VERSION");
    let mut parts = version.split('.');
    let mut part = || parts.next().unwrap_or("0").to_owned();
    let mut config = cbindgen::Config::from_file(root().join("ffi/cbindgen.toml"))?;
    config.header = Some(TOP.to_owned());
    config.after_includes = Some(format!(
        "\n/* The version of this header. */\n\
         #define RATELIMIT_VERSION \"{version}\"\n\
         #define RATELIMIT_VERSION_MAJOR {}\n\
         #define RATELIMIT_VERSION_MINOR {}\n\
         #define RATELIMIT_VERSION_PATCH {}",
        part(),
        part(),
        part()
    ));
    let mut text = Vec::new();
    let mut builder = cbindgen::Builder::new().with_config(config);
    // In the order in which a reader needs them.
    for file in [
        "result",
        "config",
        "decision",
        "statistics",
        "limiter",
        "cluster",
        "decide",
        "rules",
        "client_ip",
    ] {
        builder = builder.with_src(root().join("ffi/src").join(file).with_extension("rs"));
    }
    builder
        .generate()
        .map_err(|error| format!("cbindgen: {error}"))?
        .write(&mut text);
    let text = String::from_utf8(text).map_err(|error| error.to_string())?;
    // What a caller has to keep is said by the comment itself; the heading is for Rust.
    Ok(text.replace("# Safety\n", "The caller sees to it that:\n"))
}

fn place() -> std::path::PathBuf {
    root().join("include/ratelimit.h")
}

pub(crate) fn write() -> Result<(), String> {
    fs::write(place(), generate()?).map_err(|error| error.to_string())
}

pub(crate) fn check() -> Result<(), String> {
    let committed = fs::read_to_string(place()).map_err(|error| error.to_string())?;
    let generated = generate()?;
    if committed == generated {
        return Ok(());
    }
    let line = committed
        .lines()
        .zip(generated.lines())
        .take_while(|(a, b)| a == b)
        .count()
        + 1;
    Err(format!(
        "include/ratelimit.h is not what the sources say, from line {line} on: run `cargo xtask header` and commit it"
    ))
}

/// Every function of the header, by name, for the test that lets each of them panic.
pub(crate) fn write_entries(folder: &Path) -> Result<(), String> {
    let header = generate()?;
    let mut names: Vec<&str> = header
        .lines()
        .filter(|line| !line.trim_start().starts_with(['*', '/']))
        .filter_map(|line| {
            let name = line.split('(').next()?.rsplit([' ', '*']).next()?;
            (line.contains('(') && name.starts_with("ratelimit_")).then_some(name)
        })
        .collect();
    names.dedup();
    if names.len() < 30 {
        return Err(format!("only {} functions were found in the header", names.len()));
    }
    let mut text = String::from("static const char *const entries[] = {\n");
    for name in names {
        text += &format!("    \"{name}\",\n");
    }
    text += "};\n";
    fs::write(folder.join("entries.h"), text).map_err(|error| error.to_string())
}
