//! The file that remembers the node's life.
//!
//! A life's number is the wall clock of its start in milliseconds, times 2^16, plus 16 random bits. Peers believe the larger
//! number, so a clock that was set back must not give a smaller one: the file holds the last.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use ratelimit_protocol::Incarnation;

/// A life that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) incarnation: Incarnation,
    /// No earlier life is known: the file was not there.
    pub(crate) first: bool,
}

/// Takes a life later than the one in the file, and keeps it there before it is used.
///
/// Without a file every life counts as a later one. A file that makes no sense is replaced, and counts as one of an earlier life.
pub(crate) fn take(path: Option<&Path>) -> Result<Life, (PathBuf, io::Error)> {
    let mut random = [0; 2];
    let drawn = getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()));
    let at = |error| (path.map(Path::to_owned).unwrap_or_default(), error);
    drawn.map_err(at)?;
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let wall_ms = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
    let drawn = (wall_ms << 16) | u64::from(u16::from_le_bytes(random));
    let Some(path) = path else {
        return Ok(Life {
            incarnation: Incarnation(drawn),
            first: false,
        });
    };
    let stored = read(path).map_err(at)?;
    let incarnation = drawn.max(stored.unwrap_or(Some(0)).unwrap_or(0).saturating_add(1));
    write(path, incarnation).map_err(at)?;
    Ok(Life {
        incarnation: Incarnation(incarnation),
        first: stored.is_none(),
    })
}

/// What the file says: `None` if there is none, `Some(None)` if it makes no sense.
fn read(path: &Path) -> io::Result<Option<Option<u64>>> {
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => match file.take(64).read_to_string(&mut text) {
            Ok(_) => Ok(Some(text.trim_end().parse().ok())),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Some(None)),
            Err(error) => Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The file is the old one or the new one whenever the power fails.
fn write(path: &Path, incarnation: u64) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".tmp.{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let written = (|| {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&temporary)?;
        writeln!(file, "{incarnation}")?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    })();
    if written.is_err() {
        // It is ours, and of no use to anybody.
        let _gone = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_rise_although_the_clock_is_set_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.life");
        let first = take(Some(&path)).expect("a life");
        assert!(first.first);
        let second = take(Some(&path)).expect("a life");
        assert!(!second.first);
        assert!(second.incarnation > first.incarnation);
        // As if the clock had been a century ahead.
        let ahead = second.incarnation.0 + ((100 * 365 * 86_400_000) << 16);
        fs::write(&path, format!("{ahead}\n")).expect("a file");
        assert_eq!(take(Some(&path)).expect("a life").incarnation.0, ahead + 1);
        assert_eq!(
            fs::read_dir(folder.path()).expect("a folder").count(),
            1,
            "nothing is left behind"
        );
    }

    #[test]
    fn a_damaged_file_is_an_earlier_life_and_no_reason_to_fail() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.life");
        for damaged in [&b"none"[..], b"", b"\xff\xfe", b"18446744073709551616"] {
            fs::write(&path, damaged).expect("a file");
            let life = take(Some(&path)).expect("a life");
            assert!(!life.first);
            assert!(life.incarnation.0 > 1_600_000_000_000 << 16, "{life:?}");
        }
    }

    #[test]
    fn without_a_file_each_life_counts_as_a_later_one() {
        assert!(!take(None).expect("a life").first);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_with_its_name() {
        let (path, error) = take(Some(Path::new("/nonexistent/a.life"))).expect_err("no folder");
        assert_eq!(path, Path::new("/nonexistent/a.life"));
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
