//! The Python package: a virtual environment under `target/`, the build, and all that looks at it.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::steps::{root, run};

/// The oldest interpreter that the wheel serves.
const OLDEST: (u32, u32) = (3, 9);

/// The old module that ours must behave like, tested side by side. Never installed: its files would mix with ours.
const ORIGINAL: &str = "ratelimit==2.2.1";

/// Builds and tests the package, and checks types and style.
pub(crate) fn test() -> Result<(), String> {
    let folder = root().join("bindings").join("python");
    let place = target().join("python");
    let venv = environment(&place)?;
    let python = || {
        let mut command = Command::new(venv.join("python"));
        command.current_dir(&folder);
        command
    };
    run(
        "Python: what the tests need",
        python()
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(["-r", "tests/requirements.txt"]),
    )?;
    let original = original(&place, &venv)?;

    run(
        "Python: style",
        python().args([
            "-m",
            "ruff",
            "check",
            "--config",
            "pyproject.toml",
            ".",
            "../../benches/python",
        ]),
    )?;
    run(
        "Python: format",
        python().args([
            "-m",
            "ruff",
            "format",
            "--check",
            "--config",
            "pyproject.toml",
            ".",
            "../../benches/python",
        ]),
    )?;

    // A wheel that is installed, as users have it, and not the sources: what is missing in it is missed by the tests.
    let wheels = place.join("wheels");
    let _ = fs::remove_dir_all(&wheels);
    run(
        "Python: build",
        python()
            .args([
                "-m",
                "maturin",
                "build",
                "--quiet",
                "--locked",
                "--release",
                "--features",
                "test-hooks",
            ])
            .arg("--out")
            .arg(&wheels)
            .arg("--interpreter")
            .arg(venv.join("python")),
    )?;
    run(
        "Python: install",
        python()
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--force-reinstall",
                "--no-deps",
            ])
            .args(files(&wheels, "whl")?),
    )?;
    run(
        "Python: tests",
        python()
            .args(["-m", "pytest", "-p", "no:cacheprovider"])
            .env("RATELIMIT_ORIGINAL", original),
    )?;

    // Elsewhere, so that the installed package is looked at and not the folder of its sources.
    let elsewhere = |module: &str| {
        let mut command = Command::new(venv.join("python"));
        command.current_dir(&place).args(["-m", module]);
        command
    };
    run(
        "Python: the stub against the module",
        elsewhere("mypy.stubtest")
            .args(["ratelimit._native", "--allowlist"])
            .arg(folder.join("tests").join("stubtest_allowlist.txt")),
    )?;
    run(
        "Python: types, mypy",
        elsewhere("mypy")
            .args(["--strict", "--package", "ratelimit"])
            .arg("--config-file")
            .arg(folder.join("pyproject.toml")),
    )?;
    let example = folder.join("examples").join("typed.py");
    run(
        "Python: types of the example, mypy",
        elsewhere("mypy").arg("--strict").arg(&example),
    )?;
    run(
        "Python: types of the example, pyright",
        elsewhere("pyright")
            .arg("--pythonpath")
            .arg(venv.join("python"))
            .arg(&example),
    )?;
    run(
        "Python: the benchmark runs",
        elsewhere_script(&venv, &root().join("benches").join("python").join("bench.py")).args(["--quick"]),
    )?;
    installs(&place)
}

/// What a user does: installs the folder, and installs a source distribution in another place, each into a clean
/// environment, and runs the five lines.
fn installs(place: &Path) -> Result<(), String> {
    let folder = root().join("bindings").join("python");
    let sources = place.join("sources");
    let _ = fs::remove_dir_all(&sources);
    run(
        "Python: source distribution",
        Command::new(bin(&place.join("venv")).join("python"))
            .current_dir(&folder)
            .args(["-m", "maturin", "sdist", "--out"])
            .arg(&sources),
    )?;
    for (name, what) in [
        ("folder", folder.clone()),
        ("sdist", PathBuf::from(files(&sources, "gz")?.remove(0))),
    ] {
        let clean = place.join(format!("clean-{name}"));
        let _ = fs::remove_dir_all(&clean);
        run(
            "Python: a clean virtual environment",
            Command::new(interpreter()?).args(["-m", "venv"]).arg(&clean),
        )?;
        run(
            &format!("Python: pip install of the {name}"),
            Command::new(bin(&clean).join("python"))
                // Not the folder of the sources, which would be imported in place of what was installed.
                .current_dir(place)
                .env("CARGO_TARGET_DIR", place.join("target"))
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
                .arg(&what),
        )?;
        run(
            "Python: the README's five lines",
            Command::new(bin(&clean).join("python"))
                .current_dir(place)
                .args(["-W", "error", "-c"])
                .arg(five_lines(&folder)?),
        )?;
    }
    Ok(())
}

/// The first snippet of the README.
fn five_lines(folder: &Path) -> Result<String, String> {
    let readme = folder.join("README.md");
    let text = fs::read_to_string(&readme).map_err(|error| format!("{}: {error}", readme.display()))?;
    text.split("```python\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .map(ToOwned::to_owned)
        .ok_or_else(|| format!("{} begins with no snippet", readme.display()))
}

fn elsewhere_script(venv: &Path, script: &Path) -> Command {
    let mut command = Command::new(venv.join("python"));
    command.arg(script);
    command
}

/// The Python that has the package installed, once [`test`] has run.
pub(crate) fn installed() -> PathBuf {
    bin(&target().join("python").join("venv")).join("python")
}

/// Where cargo builds.
fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |folder| root().join(folder))
}

/// The folder of an environment's programs.
fn bin(venv: &Path) -> PathBuf {
    venv.join(if cfg!(windows) { "Scripts" } else { "bin" })
}

/// Makes the environment if it is not there yet, and answers the folder of its programs.
fn environment(place: &Path) -> Result<PathBuf, String> {
    let venv = place.join("venv");
    let programs = bin(&venv);
    let works = Command::new(programs.join("python"))
        .args(["-m", "pip", "--version"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !works {
        let _ = fs::remove_dir_all(&venv);
        fs::create_dir_all(place).map_err(|error| format!("{}: {error}", place.display()))?;
        run(
            "Python: virtual environment",
            Command::new(interpreter()?).args(["-m", "venv"]).arg(&venv),
        )?;
    }
    Ok(programs)
}

/// A Python that is new enough and can make environments. As root on Debian it is installed, elsewhere asked for.
fn interpreter() -> Result<PathBuf, String> {
    if let Some(python) = find() {
        return Ok(python);
    }
    let is_root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.starts_with(b"0\n"));
    if is_root && Command::new("apt-get").arg("--version").output().is_ok() {
        run("Python: apt-get update", Command::new("apt-get").arg("update"))?;
        run(
            "Python: apt-get install",
            Command::new("apt-get").args(["install", "--yes", "--no-install-recommends", "python3", "python3-venv"]),
        )?;
        if let Some(python) = find() {
            return Ok(python);
        }
    }
    Err(format!(
        "Python {}.{} or later with the module venv is needed: install it (on Debian: apt-get install python3 python3-venv), \
         or name one in the variable PYTHON",
        OLDEST.0, OLDEST.1
    ))
}

fn find() -> Option<PathBuf> {
    let named = env::var_os("PYTHON").map(PathBuf::from);
    let candidates = named
        .into_iter()
        .chain([PathBuf::from("python3"), PathBuf::from("python")]);
    let check = format!(
        "import ensurepip, sys, venv; sys.exit(sys.version_info < ({}, {}))",
        OLDEST.0, OLDEST.1
    );
    candidates.into_iter().find(|python| {
        Command::new(python)
            .args(["-c", &check])
            .output()
            .is_ok_and(|output| output.status.success())
    })
}

/// The old module's own files, unpacked beside the environment.
fn original(place: &Path, venv: &Path) -> Result<PathBuf, String> {
    let unpacked = place.join("original");
    if unpacked.join("ratelimit").join("decorators.py").exists() {
        return Ok(unpacked);
    }
    run(
        "Python: the old module, to compare with",
        Command::new(venv.join("python"))
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                ORIGINAL,
                "--target",
            ])
            .arg(&unpacked),
    )?;
    Ok(unpacked)
}

fn files(folder: &Path, ending: &str) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let found: Vec<String> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension() == Some(OsStr::new(ending)))
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    if found.is_empty() {
        return Err(format!("there is no .{ending} in {}", folder.display()));
    }
    Ok(found)
}
