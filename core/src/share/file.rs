//! The file of a shared table: on a file system in memory, the user's own, all of it taken at the start, and never seen half
//! made.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags};

use crate::error::EngineError;

const LONGEST_NAME: usize = 100;

/// Says what is wrong with a name, if anything is.
fn check_name(name: &str) -> Result<(), EngineError> {
    let refuse = |reason| {
        Err(EngineError::ShareName {
            name: name.chars().take(LONGEST_NAME).collect(),
            reason,
        })
    };
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name.len() > LONGEST_NAME {
        return refuse("it is longer than 100 characters");
    }
    if !name
        .bytes()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'))
    {
        return refuse("it has other characters");
    }
    Ok(())
}

/// The file of a name. Users and layouts do not get into each other's way.
pub(super) fn path(directory: &Path, name: &str, layout: u64) -> Result<PathBuf, EngineError> {
    check_name(name)?;
    let user = rustix::process::geteuid().as_raw();
    Ok(directory.join(format!("ratelimit-{user}-{name}-{layout:016x}")))
}

pub(super) fn unavailable(text: String) -> EngineError {
    EngineError::ShareUnavailable(text)
}

/// Opens the file of a name if it is there, and the user's own.
pub(super) fn open_existing(path: &Path) -> Result<Option<File>, EngineError> {
    let opened = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let refused = |what: &str| {
        Err(unavailable(format!(
            "{} {what}: somebody else put it there; remove it, or use another name",
            path.display()
        )))
    };
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return refused("is a symbolic link"),
        Err(error) => {
            return Err(unavailable(format!(
                "the shared table {} cannot be opened ({error}): see to the rights of the file, or use another name",
                path.display()
            )));
        }
    };
    let data = file
        .metadata()
        .map_err(|error| unavailable(format!("{} cannot be looked at ({error})", path.display())))?;
    if !data.is_file() {
        return refused("is no ordinary file");
    }
    if data.uid() != rustix::process::geteuid().as_raw() {
        return refused("belongs to another user");
    }
    if data.mode() & 0o077 != 0 {
        return refused("may be read or written by other users");
    }
    Ok(Some(file))
}

/// Whether the path still leads to this file.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// A file without a name, all of it taken: if this process ends before it gets one, nothing is left.
pub(super) fn create_unnamed(directory: &Path, bytes: usize) -> Result<File, EngineError> {
    let at = directory.display();
    let system = rustix::fs::statfs(directory).map_err(|error| {
        unavailable(format!(
            "there is no directory {at} for shared tables ({error}): mount a tmpfs there, or name another with \
             share_directory"
        ))
    })?;
    const TMPFS: u64 = 0x0102_1994;
    if u64::try_from(system.f_type).ok() != Some(TMPFS) {
        return Err(unavailable(format!(
            "{at} is not a tmpfs, and a table on a disk would stall while it is written back: mount a tmpfs there, or name \
             another directory with share_directory"
        )));
    }
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file: File = rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|error| {
            unavailable(format!(
                "no file can be made in {at} ({error}): see to the rights of the directory"
            ))
        })?
        .into();
    // Taken now, so that a full tmpfs is an error here and no fault later.
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes as u64).map_err(|error| {
        let free = u128::from(system.f_bavail) * system.f_bsize.unsigned_abs() as u128;
        unavailable(format!(
            "{at} has no room for the shared table ({error}): it needs {}, and {} are free; use a smaller max_keys, or mount \
             a larger tmpfs (in a container: a larger shm size)",
            mebibytes(bytes as u128),
            mebibytes(free)
        ))
    })?;
    Ok(file)
}

fn mebibytes(bytes: u128) -> String {
    format!("{}.{} MiB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20)
}

/// Gives a file without a name its name. False if the name is taken.
pub(super) fn link(file: &File, path: &Path) -> io::Result<bool> {
    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
    match rustix::fs::linkat(CWD, from, CWD, path, AtFlags::SYMLINK_FOLLOW) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A file that only descriptors lead to, and that nobody can shorten.
pub(super) fn create_for_children(bytes: usize) -> Result<File, EngineError> {
    let make = || -> rustix::io::Result<File> {
        let file: File =
            rustix::fs::memfd_create(c"ratelimit", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?.into();
        rustix::fs::ftruncate(&file, bytes as u64)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(file)
    };
    make().map_err(|error| EngineError::Memory(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["api", "a", "api-v2_x.y", &"x".repeat(100)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a/b", "a b", "ü", "a\0", &"x".repeat(101)] {
            let text = check_name(bad).unwrap_err().to_string();
            assert!(text.contains("100"), "{text}");
        }
        let path = path(Path::new("/dev/shm"), "api", 0xab).unwrap();
        let user = rustix::process::geteuid().as_raw();
        assert_eq!(
            path.to_str().unwrap(),
            format!("/dev/shm/ratelimit-{user}-api-00000000000000ab")
        );
    }

    #[test]
    fn sizes_are_written_for_people() {
        assert_eq!(mebibytes(8 << 20), "8.0 MiB");
        assert_eq!(mebibytes((4 << 20) + (1 << 19)), "4.5 MiB");
    }
}
