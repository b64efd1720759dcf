//! The C and C++ interface: everything about it that must pass, and needs tools beyond Rust.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::install;
use crate::steps::{cargo, root, run};

/// Warnings are errors, for a caller may have them so.
const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Werror", "-pedantic"];

/// The tests, and in which settings they run beside the plain one.
struct Test {
    name: &'static str,
    valgrind: bool,
    sanitizer: bool,
}

const TESTS: &[Test] = &[
    a_test("calls", true, true),
    a_test("vectors", true, true),
    a_test("torture", true, true),
    a_test("panics", true, true),
    a_test("cpp", true, true),
    // Valgrind runs one thread at a time, which takes minutes for this and shows nothing more.
    a_test("threads", false, true),
    // A child of the sanitizer's would be a second process under it.
    a_test("forks", false, false),
    // Both keep memory of their own for what was freed, and this looks at how much there is.
    a_test("churn", false, false),
    a_test("unload", false, false),
];

const fn a_test(name: &'static str, valgrind: bool, sanitizer: bool) -> Test {
    Test {
        name,
        valgrind,
        sanitizer,
    }
}

/// `cargo xtask header`.
pub(crate) fn header(arguments: &[String]) -> Result<(), String> {
    run(
        "the header",
        cargo()
            .args([
                "run",
                "--quiet",
                "--locked",
                "-p",
                "ratelimit-ffi-tools",
                "--",
                "header",
            ])
            .args(arguments),
    )
}

/// All of it.
pub(crate) fn test() -> Result<(), String> {
    tools()?;
    header(&["--check".to_owned()])?;
    run(
        "unit tests of the C interface",
        cargo().args(["test", "--quiet", "--locked", "-p", "ratelimit-ffi"]),
    )?;
    let scratch = Scratch::new()?;
    let built = install::build(&[], None)?;
    let prefix = scratch.0.join("prefix");
    install::install(&prefix, &built)?;
    symbols(&prefix)?;
    examples(&scratch.0, &prefix)?;
    snippets(&scratch.0, &prefix)?;
    programs(&scratch.0, &built)
}

/// A folder outside the repository that goes when this does.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("ratelimit-c-{}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _left_for_the_system = fs::remove_dir_all(&self.0);
    }
}

fn is_there(tool: &str) -> bool {
    Command::new(tool)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Tools and the Debian packages that have them.
fn tools() -> Result<(), String> {
    const TOOLS: [(&str, &str); 7] = [
        ("gcc", "gcc"),
        ("g++", "g++"),
        ("make", "make"),
        ("cmake", "cmake"),
        ("pkg-config", "pkg-config"),
        ("valgrind", "valgrind"),
        ("nm", "binutils"),
    ];
    let missing = || -> Vec<&str> {
        let missing = TOOLS.iter().filter(|(tool, _)| !is_there(tool));
        missing.map(|(_, package)| *package).collect()
    };
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    let advice = || {
        format!(
            "the tests of the C interface need {}: on Debian or Ubuntu `apt-get install {}`",
            packages.join(", "),
            packages.join(" ")
        )
    };
    let is_root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    if !is_root || !is_there("apt-get") {
        return Err(advice());
    }
    run("package lists", Command::new("apt-get").arg("update"))?;
    run(
        "tools for C",
        Command::new("apt-get")
            .args(["install", "--yes", "--no-install-recommends", "libc6-dev"])
            .args(&packages),
    )?;
    if missing().is_empty() { Ok(()) } else { Err(advice()) }
}

/// The shared library shows its own functions and nothing else, carries its name, and cannot be unloaded.
fn symbols(prefix: &Path) -> Result<(), String> {
    let library = prefix.join("lib/libratelimit.so");
    let output = |command: &mut Command| -> Result<String, String> {
        let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let listed = output(Command::new("nm").args(["-D", "--defined-only"]).arg(&library))?;
    let names: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    let header = fs::read_to_string(root().join("include/ratelimit.h")).map_err(|error| error.to_string())?;
    for name in &names {
        if !header.contains(&format!("{name}(")) {
            return Err(format!("libratelimit.so shows {name}, which the header does not have"));
        }
    }
    if names.len() < 40 {
        return Err(format!("libratelimit.so shows only {} functions", names.len()));
    }
    let dynamic = output(Command::new("readelf").arg("-d").arg(&library))?;
    for wanted in [format!("[{}]", install::soname()), "NODELETE".to_owned()] {
        if !dynamic.contains(&wanted) {
            return Err(format!("libratelimit.so says no {wanted} in its dynamic section"));
        }
    }
    eprintln!("libratelimit.so shows {} functions, all of the header", names.len());
    Ok(())
}

/// The examples from a copy outside the repository, as a user would build them.
fn examples(scratch: &Path, prefix: &Path) -> Result<(), String> {
    let copy = scratch.join("examples");
    fs::create_dir_all(&copy).map_err(|error| error.to_string())?;
    for entry in fs::read_dir(root().join("ffi/examples")).map_err(|error| error.to_string())? {
        let entry = entry.map_err(|error| error.to_string())?;
        fs::copy(entry.path(), copy.join(entry.file_name())).map_err(|error| error.to_string())?;
    }
    run(
        "examples through pkg-config",
        Command::new("make")
            .current_dir(&copy)
            .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"))
            .env("CFLAGS", WARNINGS.join(" "))
            .env("CXXFLAGS", WARNINGS.join(" ")),
    )?;
    let build = copy.join("build");
    run(
        "examples through CMake, configuration",
        Command::new("cmake")
            .arg("-S")
            .arg(&copy)
            .arg("-B")
            .arg(&build)
            .arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display())),
    )?;
    run(
        "examples through CMake",
        Command::new("cmake").arg("--build").arg(&build),
    )?;
    for program in [
        copy.join("example-c"),
        copy.join("example-cpp"),
        build.join("example-c"),
        build.join("example-cpp"),
        build.join("example-static"),
    ] {
        let output = Command::new(&program)
            .output()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        // 20 at once, and perhaps one that came back on a slow machine.
        if !output.status.success() || !text.contains(" of 30 allowed; the limit is 20") {
            return Err(format!("{} said {text:?} ({})", program.display(), output.status));
        }
    }
    eprintln!("five examples ran");
    Ok(())
}

/// Every program and piece of one in the documents about C. A block that includes nothing is the inside of `main`.
fn snippets(scratch: &Path, prefix: &Path) -> Result<(), String> {
    let mut count = 0;
    for document in ["docs/c.md", "docs/migration/c.md"] {
        let text = fs::read_to_string(root().join(document)).map_err(|error| format!("{document}: {error}"))?;
        let mut blocks = text.split("\n```");
        // What comes before the first fence is prose; after that code and prose alternate.
        blocks.next();
        for block in blocks.step_by(2) {
            let (language, code) = block.split_once('\n').unwrap_or((block, ""));
            let (compiler, standard, end, includes) = match language {
                "c" => ("gcc", "-std=c11", "c", "#include <ratelimit.h>\n#include <stdio.h>\n"),
                "cpp" => (
                    "g++",
                    "-std=c++17",
                    "cpp",
                    "#include <ratelimit.hpp>\n#include <cstdio>\n",
                ),
                _ => continue,
            };
            let whole = match code.contains("#include") {
                true => code.to_owned(),
                false if end == "c" => format!("{includes}int main(void) {{\n{code}}}\n"),
                false => format!("{includes}int main() {{\n{code}}}\n"),
            };
            count += 1;
            let source = scratch.join(format!("snippet-{count}.{end}"));
            fs::write(&source, whole).map_err(|error| error.to_string())?;
            let program = scratch.join(format!("snippet-{count}"));
            let lib = prefix.join("lib");
            let output = Command::new(compiler)
                .args([standard, "-D_GNU_SOURCE", "-pthread"])
                .args(WARNINGS)
                // One line for one thought is right in a document.
                .arg("-Wno-misleading-indentation")
                .arg("-I")
                .arg(prefix.join("include"))
                .arg(&source)
                .arg("-o")
                .arg(&program)
                .arg(format!("-L{}", lib.display()))
                .arg("-lratelimit")
                .arg(format!("-Wl,-rpath,{}", lib.display()))
                .output()
                .map_err(|error| format!("{compiler}: {error}"))?;
            if !output.status.success() {
                let errors = String::from_utf8_lossy(&output.stderr);
                return Err(format!("code number {count} of {document} does not compile:\n{errors}"));
            }
            run(
                &format!("code number {count}, of {document}"),
                &mut Command::new(&program),
            )?;
        }
    }
    if count < 6 {
        return Err(format!(
            "only {count} pieces of code were found in the documents about C"
        ));
    }
    Ok(())
}

/// Compiles one of the tests against the library in `library`.
fn compile(test: &str, scratch: &Path, library: &Path, flags: &[&str]) -> Result<PathBuf, String> {
    let sources = root().join("ffi/tests/c");
    let is_cpp = sources.join(test).with_extension("cpp").exists();
    let (compiler, standard, end) = match is_cpp {
        true => ("g++", "-std=c++17", "cpp"),
        false => ("gcc", "-std=c11", "c"),
    };
    let program = library.join(format!("test-{test}-{}", flags.len()));
    let mut command = Command::new(compiler);
    command
        .args([standard, "-D_GNU_SOURCE", "-O1", "-g"])
        .args(WARNINGS)
        .args(flags)
        .arg("-I")
        .arg(root().join("include"))
        .arg("-I")
        .arg(scratch)
        .arg(sources.join(test).with_extension(end))
        .arg("-o")
        .arg(&program)
        .arg("-pthread");
    match test {
        "unload" => command.arg("-ldl"),
        _ => command
            .arg(library.join("libratelimit.so"))
            .arg(format!("-Wl,-rpath,{}", library.display())),
    };
    let output = command.output().map_err(|error| format!("{compiler}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(program)
}

/// A folder with a library under all the names that it needs, so that tests use what was built and not what was installed.
fn named(scratch: &Path, folder: &str, built: &Path) -> Result<PathBuf, String> {
    let folder = scratch.join(folder);
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    for name in ["libratelimit.so".to_owned(), install::soname()] {
        fs::copy(built.join("libratelimit.so"), folder.join(name)).map_err(|error| error.to_string())?;
    }
    Ok(folder)
}

fn programs(scratch: &Path, built: &Path) -> Result<(), String> {
    run(
        "tables for the tests in C",
        cargo()
            .args([
                "run",
                "--quiet",
                "--locked",
                "-p",
                "ratelimit-ffi-tools",
                "--",
                "tables",
            ])
            .arg(scratch),
    )?;
    // The library that is shipped has no hook for panics.
    let hooked = install::build(&["test-hooks"], Some(&built.join("with-test-hooks")))?;
    let (shipped, hooked) = (named(scratch, "shipped", built)?, named(scratch, "hooked", &hooked)?);
    for test in TESTS {
        let library = if test.name == "panics" { &hooked } else { &shipped };
        let arguments = match test.name {
            "calls" => vec![scratch.to_owned()],
            "unload" => vec![library.join("libratelimit.so")],
            _ => vec![],
        };
        let program = compile(test.name, scratch, library, &[])?;
        run(
            &format!("C test {}", test.name),
            Command::new(&program).args(&arguments),
        )?;
        if test.valgrind {
            run(
                &format!("C test {} under Valgrind", test.name),
                Command::new("valgrind")
                    .args([
                        "--quiet",
                        "--error-exitcode=99",
                        "--leak-check=full",
                        "--errors-for-leak-kinds=definite",
                    ])
                    .args(["--fair-sched=yes"])
                    .env("RATELIMIT_FEW", "1")
                    .arg(&program)
                    .args(&arguments),
            )?;
        }
        if test.sanitizer {
            let program = compile(
                test.name,
                scratch,
                library,
                &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
            )?;
            run(
                &format!("C test {} under AddressSanitizer", test.name),
                Command::new(&program).env("RATELIMIT_FEW", "1").args(&arguments),
            )?;
        }
    }
    Ok(())
}
