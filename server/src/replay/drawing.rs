//! The file that a drawing goes to: opened before anything is read, changed only when there is something to put in it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::input::Source;
use crate::failure::Failure;

/// A file that will hold a drawing.
#[derive(Debug)]
pub struct Drawing {
    path: PathBuf,
    file: File,
    /// There was none before: if nothing is drawn there shall be none.
    created: bool,
}

impl Drawing {
    /// Opens the file at `path` and leaves its contents as they are.
    ///
    /// Errors: it is one of the logs, or it cannot be written; nothing is changed then.
    pub fn open(path: &Path, sources: &[Source]) -> Result<Self, Failure> {
        if let Some(log) = sources.iter().find(|source| is_same(path, source)) {
            return Err(Failure::Usage(format!(
                "{} is the log ({}): name another file for the drawing",
                path.display(),
                log.name()
            )));
        }
        // Two steps, since only the first says that the file is new.
        let opened = match OpenOptions::new().write(true).create_new(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                OpenOptions::new().write(true).open(path).map(|file| (file, false))
            }
            opened => opened.map(|file| (file, true)),
        };
        let (file, created) = opened.map_err(|error| failed(path, &error))?;
        Ok(Drawing {
            path: path.to_owned(),
            file,
            created,
        })
    }

    /// Replaces the file's contents by what `draw` writes.
    pub fn fill(mut self, draw: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
        let filled = self.replace(draw);
        // Also a half of it is a thing to look at.
        self.created = false;
        filled.map_err(|error| failed(&self.path, &error))
    }

    fn replace(&self, draw: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        // A pipe or a device has no length to cut.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        let mut file = BufWriter::new(&self.file);
        draw(&mut file)?;
        file.flush()
    }
}

impl Drop for Drawing {
    fn drop(&mut self) {
        if self.created {
            // Nothing more can be done about an empty file that cannot be removed.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::file("write the drawing to", path, error)
}

/// Whether `path` leads to what is read, by whatever name.
fn is_same(path: &Path, source: &Source) -> bool {
    let log = match source {
        Source::File(log) => log.as_path(),
        // Where there is no such name, input that was redirected from a file cannot be told from a pipe.
        Source::Stdin => Path::new("/dev/stdin"),
        Source::Sample(_) => return false,
    };
    let (Ok(ours), Ok(theirs)) = (fs::metadata(path), fs::metadata(log)) else {
        return false;
    };
    if !ours.is_file() || !theirs.is_file() {
        return false;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())
    }
    #[cfg(not(unix))]
    matches!((path.canonicalize(), log.canonicalize()), (Ok(ours), Ok(theirs)) if ours == theirs)
}
