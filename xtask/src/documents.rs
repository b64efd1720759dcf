//! Whether the documents still tell the truth about the files they name.

use std::fs;
use std::path::{Path, PathBuf};

use crate::steps::{cargo, root};

/// Folders that hold no documents of ours.
const SKIPPED: [&str; 4] = ["target", ".git", "node_modules", ".venv"];

/// The list of events, which is made from their table.
const EVENTS: &str = "docs/events.md";

/// Compares the list of events with the table, or with `--write` writes it.
fn events(write: bool) -> Result<(), String> {
    let made = cargo()
        .args([
            "run",
            "--quiet",
            "--locked",
            "-p",
            "ratelimit-server",
            "--example",
            "events",
        ])
        .output()
        .map_err(|error| format!("the list of events could not be made: {error}"))?;
    if !made.status.success() {
        return Err(format!(
            "the list of events could not be made: {}",
            String::from_utf8_lossy(&made.stderr)
        ));
    }
    let path = root().join(EVENTS);
    if write {
        return fs::write(&path, &made.stdout).map_err(|error| format!("{}: {error}", path.display()));
    }
    let known = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    if known == made.stdout {
        return Ok(());
    }
    Err(format!(
        "{EVENTS} is not what the table of events says: cargo xtask documents --write"
    ))
}

pub(crate) fn command(arguments: &[String]) -> Result<(), String> {
    match arguments {
        [] => {
            events(false)?;
            check()
        }
        [option] if option == "--write" => events(true),
        _ => Err("usage: cargo xtask documents [--write]".to_owned()),
    }
}

fn check() -> Result<(), String> {
    let root = root();
    let mut documents = Vec::new();
    collect(&root, &mut documents)?;
    let mut wrong = Vec::new();
    for document in &documents {
        let text = fs::read_to_string(document).map_err(|error| format!("{}: {error}", document.display()))?;
        for named in names(&text) {
            let here = document.parent().unwrap_or(&root).join(&named);
            if !here.exists() && !root.join(&named).exists() {
                wrong.push(format!("{} names {named}, which does not exist", document.display()));
            }
        }
    }
    if wrong.is_empty() {
        eprintln!("{} documents name only files that exist", documents.len());
        return Ok(());
    }
    Err(wrong.join("\n"))
}

fn collect(folder: &Path, documents: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !SKIPPED.contains(&name.as_str()) {
                collect(&path, documents)?;
            }
        } else if name.ends_with(".md") {
            documents.push(path);
        }
    }
    Ok(())
}

/// What a text names: targets of links that are no addresses, and words in backticks that look like a path of ours.
fn names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for part in text.split("](").skip(1) {
        if let Some(target) = part.split(')').next() {
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") && !file.starts_with("mailto:") {
                names.push(file.to_owned());
            }
        }
    }
    for word in text.split('`').skip(1).step_by(2) {
        const ENDS: [&str; 8] = [".rs", ".md", ".toml", ".json", ".h", ".hpp", ".py", "/"];
        let looks_like_path = word.contains('/')
            && ENDS.iter().any(|end| word.ends_with(end))
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
            && !word.starts_with('/')
            && !word.starts_with("..");
        if looks_like_path {
            names.push(word.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn links_and_paths_are_found_and_nothing_else() {
        let text =
            "See [a](docs/a.md#part), [b](https://example.org/x.md), `core/src/raw/`, `a/b` and `cargo run x/y.rs`.";
        assert_eq!(names(text), ["docs/a.md", "core/src/raw/"]);
    }
}
