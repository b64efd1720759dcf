//! `cargo xtask install`: puts libratelimit where programs look for it.
//!
//! cargo-c does the same for the library, the header and the pkg-config file, but has to be built first (some 400 crates), knows
//! no CMake package and takes no second header. What is left for us is to copy seven files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::steps::{cargo, root, run};

/// What a program that links libratelimit.a has to link too: `rustc --print native-static-libs`.
const NATIVE_LIBS: [&str; 6] = ["gcc_s", "util", "rt", "pthread", "m", "dl"];

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The name by which programs find the shared library: as in ffi/build.rs, and a test compares both.
pub(crate) fn soname() -> String {
    let (major, rest) = VERSION.split_once('.').unwrap_or((VERSION, "0"));
    let minor = rest.split('.').next().unwrap_or("0");
    match major {
        "0" => format!("libratelimit.so.0.{minor}"),
        _ => format!("libratelimit.so.{major}"),
    }
}

pub(crate) fn command(arguments: &[String]) -> Result<(), String> {
    let (mut prefix, mut destdir) = (None, None);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let place = match argument.as_str() {
            "--prefix" => &mut prefix,
            "--destdir" => &mut destdir,
            other => {
                return Err(format!(
                    "install takes --prefix DIR and --destdir DIR, and not \"{other}\""
                ));
            }
        };
        *place = Some(PathBuf::from(
            arguments.next().ok_or(format!("{argument} needs a folder"))?,
        ));
    }
    let prefix = prefix.ok_or("give --prefix DIR, for instance --prefix /usr/local")?;
    let prefix = match destdir {
        None => prefix,
        // An absolute prefix would replace the root that it is to be put below.
        Some(destdir) => destdir.join(prefix.strip_prefix("/").unwrap_or(&prefix)),
    };
    install(&prefix, &build(&[], None)?)?;
    eprintln!("libratelimit {VERSION} is in {}", prefix.display());
    Ok(())
}

/// Builds the library and answers the folder it is in.
pub(crate) fn build(features: &[&str], target: Option<&Path>) -> Result<PathBuf, String> {
    let target = match (target, std::env::var_os("CARGO_TARGET_DIR")) {
        (Some(target), _) => target.to_owned(),
        (None, Some(target)) => PathBuf::from(target),
        (None, None) => root().join("target"),
    };
    run(
        "libratelimit",
        cargo()
            .args(["build", "--locked", "--release", "-p", "ratelimit-ffi"])
            .arg("--features")
            .arg(features.join(","))
            .arg("--target-dir")
            .arg(&target),
    )?;
    Ok(root().join(target).join("release"))
}

fn io<T>(what: &Path, result: std::io::Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("{}: {error}", what.display()))
}

/// Copies under another name first: a program that runs keeps the old file, and none sees half of the new one.
fn put(from: &Path, to: &Path) -> Result<(), String> {
    let new = to.with_extension("new");
    io(from, fs::copy(from, &new))?;
    io(to, fs::rename(&new, to))
}

#[cfg(unix)]
fn link(target: &str, place: &Path) -> Result<(), String> {
    let new = place.with_extension("new");
    let _was_not_there = fs::remove_file(&new);
    io(&new, std::os::unix::fs::symlink(target, &new))?;
    io(place, fs::rename(&new, place))
}

#[cfg(not(unix))]
fn link(_: &str, _: &Path) -> Result<(), String> {
    Err("install knows Unix only; copy the library and include/ by hand".to_owned())
}

/// Installs what was built into `prefix`.
pub(crate) fn install(prefix: &Path, built: &Path) -> Result<(), String> {
    let (include, lib) = (prefix.join("include"), prefix.join("lib"));
    let (pkgconfig, cmake) = (lib.join("pkgconfig"), lib.join("cmake/ratelimit"));
    for folder in [&include, &pkgconfig, &cmake] {
        io(folder, fs::create_dir_all(folder))?;
    }
    for header in ["ratelimit.h", "ratelimit.hpp"] {
        put(&root().join("include").join(header), &include.join(header))?;
    }
    let full = format!("libratelimit.so.{VERSION}");
    put(&built.join("libratelimit.so"), &lib.join(&full))?;
    link(&full, &lib.join(soname()))?;
    link(&soname(), &lib.join("libratelimit.so"))?;
    put(&built.join("libratelimit.a"), &lib.join("libratelimit.a"))?;
    for (file, folder) in [
        ("ratelimit.pc", &pkgconfig),
        ("ratelimit-config.cmake", &cmake),
        ("ratelimit-config-version.cmake", &cmake),
    ] {
        let template = root().join("ffi/packaging").join(format!("{file}.in"));
        // CMake separates by semicolons and adds -l itself.
        let libs = match file.ends_with(".cmake") {
            true => NATIVE_LIBS.join(";"),
            false => NATIVE_LIBS.map(|lib| format!("-l{lib}")).join(" "),
        };
        let text = io(&template, fs::read_to_string(&template))?
            .replace("@VERSION@", VERSION)
            .replace("@SONAME@", &soname())
            .replace("@NATIVE_LIBS@", &libs);
        io(&folder.join(file), fs::write(folder.join(file), text))?;
    }
    Ok(())
}
