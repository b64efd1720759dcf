//! One table for several processes: who may attach, what they agree on, and what is left.

#![cfg(target_os = "linux")]
// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use ratelimit::{Builder, Clock, Error, Limit, Limiter};

/// A name that no other test has, and no other run of them; removed at the end.
struct Name(String);

impl Name {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Name(format!("test-{}-{number}", std::process::id()))
    }

    fn file(&self) -> Option<PathBuf> {
        let part = format!("-{}-", self.0);
        let mut files = std::fs::read_dir("/dev/shm").unwrap().map(|file| file.unwrap().path());
        files.find(|file| file.to_string_lossy().contains(&part))
    }

    fn table(&self, limit: &str) -> Builder {
        Limiter::builder()
            .limit(limit.parse().unwrap())
            .max_keys(1_000)
            .share(&self.0)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if let Some(file) = self.file() {
            let _ = std::fs::remove_file(file);
        }
    }
}

fn allowed(limiter: &Limiter, key: &str, times: usize) -> usize {
    (0..times).filter(|_| limiter.is_allowed(key)).count()
}

fn parse(text: &str) -> Limit {
    text.parse().unwrap()
}

#[test]
fn limiters_of_one_name_admit_together_what_one_would() {
    let name = Name::new();
    let [a, b] = [0; 2].map(|_| name.table("10/hour").build().unwrap());
    assert_eq!(allowed(&a, "x", 6) + allowed(&b, "x", 6), 10);
    assert_eq!((a.stats().attached, a.stats().shared_with), (2, "name"));
    assert!(a.prometheus().contains("ratelimit_attached 2\n"));
    // What one changes holds for the other.
    a.set_limit(parse("20/hour")).unwrap();
    assert_eq!(b.limits(), [parse("20/hour")]);
    a.set_override("vip", Some(parse("3/hour"))).unwrap();
    assert_eq!(allowed(&b, "vip", 5), 3);
    b.set_override("vip", None).unwrap();
    assert_eq!(a.peek("vip").limit, 20);
    a.block("bad", std::time::Duration::from_secs(60)).unwrap();
    assert!(!b.is_allowed("bad"));
    b.reset("bad");
    assert!(a.is_allowed("bad"));
    drop(b);
    assert_eq!(a.stats().attached, 1);
    let audit = a.audit();
    assert_eq!((audit.faults, audit.tentative, audit.claimed), (0, 0, 0), "{audit:?}");
}

#[test]
fn the_table_outlives_its_limiters_until_it_is_removed() {
    let name = Name::new();
    assert!(!Limiter::unshare(&name.0).unwrap());
    let limiter = name.table("4/hour").build().unwrap();
    assert_eq!(allowed(&limiter, "x", 3), 3);
    let mode = std::fs::metadata(name.file().unwrap()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let error = Limiter::unshare(&name.0).unwrap_err();
    assert_eq!((error.code(), error.name()), (33, "share_unavailable"));
    assert!(error.to_string().contains("in use by 1 limiters"), "{error}");
    drop(limiter);

    let again = name.table("4/hour").build().unwrap();
    assert_eq!(allowed(&again, "x", 3), 1, "what was spent is spent");
    drop(again);
    assert!(Limiter::unshare(&name.0).unwrap());
    let fresh = name.table("4/hour").build().unwrap();
    assert_eq!(allowed(&fresh, "x", 5), 4);
}

#[test]
fn other_limits_are_refused_with_a_sentence_or_replace_them() {
    let name = Name::new();
    let first = name.table("10/hour").build().unwrap();
    assert_eq!(allowed(&first, "x", 5), 5);
    let error = name.table("20/hour").build().unwrap_err();
    assert_eq!(error.code(), 31);
    let text = error.to_string();
    assert!(
        text.contains("\"10/hour\"") && text.contains("\"20/hour\"") && text.contains("replace_limits"),
        "{text}"
    );
    assert_eq!(first.stats().attached, 1, "who was refused has no slot");

    let second = name.table("20/hour").replace_limits(true).build().unwrap();
    assert_eq!(first.limits(), [parse("20/hour")]);
    // The client keeps the share of its burst that it had spent: half.
    assert_eq!(allowed(&second, "x", 20), 10);

    let two = name.table("20/hour").limit(parse("1000/day"));
    let error = two.clone().replace_limits(true).build().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("1 limit and this limiter was given 2 limits"),
        "{error}"
    );
    let error = name.table("20/hour").max_keys(5_000).build().unwrap_err();
    assert!(
        error.to_string().contains("1000 keys") && error.to_string().contains("5000"),
        "{error}"
    );
    let error = name.table("20/hour").hash_key([1; 16]).build().unwrap_err();
    assert!(error.to_string().contains("hash key"), "{error}");
    let other_clock = if first.stats().clock == "os" {
        Clock::coarse()
    } else {
        Clock::os()
    };
    let error = name.table("20/hour").clock(other_clock).build().unwrap_err();
    assert!(error.to_string().contains("clock"), "{error}");

    // Nobody is attached any more: whoever comes next has his way.
    drop((first, second));
    let alone = name.table("40/hour").build().unwrap();
    assert_eq!(alone.limits(), [parse("40/hour")]);
    assert!(!alone.is_allowed("x"), "the share that was spent is kept");
    drop(alone);
    let alone = two.build().unwrap();
    assert_eq!(alone.limits().len(), 2);
    assert!(alone.is_allowed("x"), "a table of another shape is a new one");
}

#[test]
fn a_limiter_without_a_size_takes_that_of_the_table() {
    let name = Name::new();
    let _first = name.table("10/hour").build().unwrap();
    let second = Limiter::builder()
        .limit(parse("10/hour"))
        .share(&name.0)
        .build()
        .unwrap();
    assert_eq!(second.stats().table.cells_at_most, 2_000 + 28);
}

#[test]
fn what_cannot_be_shared_is_refused() {
    let share = |name: &str| Limiter::builder().limit(parse("10/s")).share(name).build();
    for bad in ["", "a/b", "..\\x y", &"x".repeat(101)] {
        let error = share(bad).unwrap_err();
        assert_eq!((error.code(), error.name()), (30, "share_name"), "{error}");
    }
    let name = Name::new();
    let error = name.table("10/s").clock(Clock::manual().0).build().unwrap_err();
    assert!(error.to_string().contains("by hand"), "{error}");
    assert!(name.file().is_none(), "a refusal leaves nothing");
    let refused = [
        name.table("10/s").share_with_children(),
        Limiter::builder().limit(parse("10/s")).share_directory("/dev/shm"),
        Limiter::builder().limit(parse("10/s")).replace_limits(true),
    ];
    for builder in refused {
        assert_eq!(builder.build().unwrap_err().code(), 31);
    }
    let error = name
        .table("10/s")
        .share_directory("/nowhere/at/all")
        .build()
        .unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    let error = name.table("10/s").share_directory("/proc").build().unwrap_err();
    assert!(error.to_string().contains("not a tmpfs"), "{error}");
    let error = name.table("10/s").max_keys(1 << 40).build().unwrap_err();
    assert_eq!(error.code(), 3, "{error}");
}

#[test]
fn a_strange_file_under_the_name_is_not_believed() {
    let name = Name::new();
    drop(name.table("10/s").build().unwrap());
    let file = name.file().unwrap();
    // A link to it, as somebody else might put it there.
    let kept = file.with_extension("kept");
    std::fs::rename(&file, &kept).unwrap();
    std::os::unix::fs::symlink(&kept, &file).unwrap();
    let error = name.table("10/s").build().unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    std::fs::remove_file(&file).unwrap();
    // One that others can write.
    std::fs::rename(&kept, &file).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o660)).unwrap();
    let error = name.table("10/s").build().unwrap_err();
    assert!(error.to_string().contains("other users"), "{error}");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert_eq!(name.table("10/s").build().unwrap_err().code(), 33);
    std::fs::remove_dir(&file).unwrap();
    // Half a table, and one whose words mean nothing: nobody uses them, so they are made anew.
    for bytes in [0, 5_000, 3 << 20] {
        std::fs::write(&file, vec![0x5a; bytes]).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let limiter = name.table("10/s").build().unwrap();
        assert!(limiter.is_allowed("x") && limiter.audit().faults == 0);
        drop(limiter);
    }
}

#[test]
fn many_limiters_at_once_agree_on_one_table() {
    let name = Name::new();
    let admitted: usize = std::thread::scope(|scope| {
        let openers: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| name.table("100/hour").build().map(|limiter| allowed(&limiter, "x", 20))))
            .collect();
        openers.into_iter().map(|opener| opener.join().unwrap().unwrap()).sum()
    });
    assert_eq!(admitted, 100);
}

#[test]
fn there_are_256_places() {
    let name = Name::new();
    let mut all: Vec<Limiter> = (0..256).map(|_| name.table("10/s").build().unwrap()).collect();
    assert_eq!(all[0].stats().attached, 256);
    let error = name.table("10/s").build().unwrap_err();
    assert_eq!((error.code(), error.name()), (32, "share_full"), "{error}");
    all.pop();
    all.push(name.table("10/s").build().unwrap());
}

#[test]
fn one_can_look_from_outside() {
    let name = Name::new();
    assert!(Limiter::look_at_shared("/dev/shm", &name.0).unwrap().is_none());
    let limiter = name.table("10/hour").build().unwrap();
    assert!(limiter.is_allowed("x") && limiter.is_allowed("y"));
    let look = Limiter::look_at_shared("/dev/shm", &name.0).unwrap().unwrap();
    assert_eq!(
        (look.max_keys, look.limits.as_slice()),
        (1_000, [parse("10/hour")].as_slice())
    );
    assert_eq!(look.processes, [std::process::id()]);
    assert_eq!((look.audit.live, look.audit.faults, look.survey.live), (2, 0, 2));
    assert_eq!(look.audit.backlog_log2_us.iter().sum::<u64>(), 2);
    assert_eq!(look.bytes, std::fs::metadata(name.file().unwrap()).unwrap().len());
    assert!(look.age.as_secs() < 3_600);
    assert_eq!(limiter.stats().attached, 1, "looking takes no slot");
    drop(limiter);
    assert!(
        Limiter::look_at_shared("/dev/shm", &name.0)
            .unwrap()
            .unwrap()
            .processes
            .is_empty()
    );
}

/// A tmpfs of 4 MiB, mounted for as long as this lives; only root can.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let place = std::env::temp_dir().join(format!("ratelimit-small-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(&place)
            .output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then_some(SmallDisk(place))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_full_tmpfs_is_an_error_and_harms_no_table() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: only root can mount a small tmpfs");
        return;
    };
    let at = |keys: usize, name: &str| {
        let builder = Limiter::builder().limit(parse("100/hour")).share_directory(&disk.0);
        builder.share(name).max_keys(keys).build()
    };
    let files = |directory: &Path| std::fs::read_dir(directory).unwrap().count();
    let first = at(50_000, "fits").unwrap();
    assert_eq!(allowed(&first, "x", 50), 50);
    let error = at(100_000, "does-not").unwrap_err();
    assert_eq!(error.code(), 33);
    let text = error.to_string();
    assert!(
        text.contains("needs") && text.contains("MiB") && text.contains("smaller max_keys"),
        "{text}"
    );
    assert_eq!(files(&disk.0), 1, "nothing half made is left");
    // Full to the last page by something else: every cell of the table can still be written.
    std::fs::write(disk.0.join("other"), vec![1; 4 << 20]).unwrap_err();
    for key in 0..60_000 {
        let _ = first.is_allowed(&format!("key {key}"));
    }
    assert_eq!(allowed(&first, "x", 60), 50);
    assert_eq!(first.audit().faults, 0);
    let second = at(50_000, "fits").unwrap();
    assert!(!second.is_allowed("x"));
}

#[test]
fn errors_are_errors_of_the_limiter() {
    let error = Limiter::builder().share("x").build().unwrap_err();
    assert!(matches!(error, Error::LimitCount(_)), "{error}");
}
