//! What a call through the shared library adds to the same call in Rust: the same keys and limits, in alternating rounds of
//! one run.
//!
//! ```sh
//! cargo build --release -p ratelimit-ffi && cargo run --release -p ratelimit-c-bench
//! ```
//!
//! The library is loaded as a C program would load it, and called by address; nothing of it is compiled into this program.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use ratelimit::Limiter;

const ROUNDS: usize = 3_001;
/// Keys in call order. A round takes a tenth of a millisecond, less than a thread's turn, so that on a machine with other work
/// most rounds are whole, and the median is one of these.
const KEYS: usize = 4_000;
/// More than is asked for, and nothing expires: every call is an admission of a client that has its cell.
const LIMIT: &str = "17000000/200d";
const LIMIT_C: &CStr = c"17000000/200d";
/// The same table and the same places in it for both.
const MAX_KEYS: u64 = 4_096;
const HASH_KEY: &CStr = c"00000000000000000000000000000000";

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CDecision {
    allowed: bool,
    numbers: [u64; 4],
}

struct Library {
    is_allowed: unsafe extern "C" fn(u64, *const u8, usize) -> bool,
    check: unsafe extern "C" fn(u64, *const u8, usize, u64, *mut CDecision) -> c_int,
    allowed_many: unsafe extern "C" fn(u64, *const *const u8, *const usize, usize, *mut bool) -> c_int,
    parse: unsafe extern "C" fn(*const c_char, *mut *mut c_void) -> c_int,
    set_max_keys: unsafe extern "C" fn(*mut c_void, u64) -> c_int,
    set_hash_key: unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int,
    open: unsafe extern "C" fn(*const c_void, *mut u64) -> c_int,
}

// Each target type is the field's, written once above.
#[allow(clippy::missing_transmute_annotations)]
fn library() -> Result<Library, String> {
    let path = std::env::args().nth(1).map_or_else(
        || {
            let mut path = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("target/release/."));
            path.set_file_name("libratelimit.so");
            path
        },
        PathBuf::from,
    );
    let name = CString::new(path.to_string_lossy().as_bytes()).map_err(|error| error.to_string())?;
    // Safety: loading our own library runs no code but its own.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
    if handle.is_null() {
        return Err(format!(
            "{} cannot be loaded: run `cargo build --release -p ratelimit-ffi` first, or give its path",
            path.display()
        ));
    }
    let symbol = |name: &CStr| {
        // Safety: the handle is open, and stays so.
        let symbol = unsafe { libc::dlsym(handle, name.as_ptr()) };
        if symbol.is_null() {
            return Err(format!("{} has no {name:?}", path.display()));
        }
        Ok(symbol)
    };
    // Safety: these are the types that include/ratelimit.h gives them.
    unsafe {
        Ok(Library {
            is_allowed: std::mem::transmute::<*mut c_void, _>(symbol(c"ratelimit_is_allowed")?),
            check: std::mem::transmute::<*mut c_void, _>(symbol(c"ratelimit_check")?),
            allowed_many: std::mem::transmute::<*mut c_void, _>(symbol(c"ratelimit_allowed_many")?),
            parse: std::mem::transmute::<*mut c_void, _>(symbol(c"ratelimit_config_parse")?),
            set_max_keys: std::mem::transmute::<*mut c_void, _>(symbol(c"ratelimit_config_set_max_keys")?),
            set_hash_key: std::mem::transmute::<*mut c_void, _>(symbol(c"ratelimit_config_set_hash_key")?),
            open: std::mem::transmute::<*mut c_void, _>(symbol(c"ratelimit_open")?),
        })
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Nanoseconds per key.
fn time(mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / KEYS as f64
}

/// Rounds of both, one after the other, the first of them alternating; prints medians and the median of the differences.
fn compare(what: &str, mut rust: impl FnMut(), mut c: impl FnMut()) {
    let (mut rusts, mut cs, mut differences, mut ratios) = (vec![], vec![], vec![], vec![]);
    rust();
    c();
    for round in 0..ROUNDS {
        let (r, c) = if round % 2 == 0 {
            let r = time(&mut rust);
            (r, time(&mut c))
        } else {
            let c = time(&mut c);
            (time(&mut rust), c)
        };
        rusts.push(r);
        cs.push(c);
        differences.push(c - r);
        ratios.push(c / r);
    }
    println!(
        "| {what} | {:.1} | {:.1} | {:+.1} | {:.2} |",
        median(rusts),
        median(cs),
        median(differences),
        median(ratios)
    );
}

fn run() -> Result<(), String> {
    let library = library()?;
    let limiter = Limiter::builder()
        .limit(LIMIT.parse().map_err(|_| "the limit is wrong")?)
        .max_keys(MAX_KEYS as usize)
        .hash_key([0; 16])
        .build()
        .map_err(|error| error.to_string())?;
    let (mut config, mut handle) = (std::ptr::null_mut(), 0);
    // Safety: as the header says: texts that end with a zero byte, and places for a config and a handle.
    let opened = unsafe {
        [
            (library.parse)(LIMIT_C.as_ptr(), &raw mut config),
            (library.set_max_keys)(config, MAX_KEYS),
            (library.set_hash_key)(config, HASH_KEY.as_ptr()),
            (library.open)(config, &raw mut handle),
        ]
    };
    if opened != [0; 4] {
        return Err(format!("the library opened no limiter: {opened:?}"));
    }

    println!("| call | Rust, ns | C, ns | difference, ns | C / Rust |\n|---|---:|---:|---:|---:|");
    for (label, clients) in [("1 key", 1), ("1,024 keys", 1_024)] {
        // Clients of their own for each comparison, so that none runs out; ids of 24 bytes.
        let ids = |what: usize| -> Vec<String> { (0..clients).map(|i| format!("client-{what}-{i:015}")).collect() };
        let ids = [0, 1, 2].map(ids);
        let order = |what: usize| -> Vec<&str> { (0..KEYS).map(|i| ids[what][(i * 617) % clients].as_str()).collect() };
        let [single, checked, many] = [order(0), order(1), order(2)];
        compare(
            &format!("is_allowed, {label}"),
            || {
                for id in &single {
                    black_box(limiter.is_allowed(black_box(*id)));
                }
            },
            || {
                for id in &single {
                    let id = black_box(id);
                    // Safety: the bytes of a live text.
                    black_box(unsafe { (library.is_allowed)(handle, id.as_ptr(), id.len()) });
                }
            },
        );
        compare(
            &format!("check, {label}"),
            || {
                for id in &checked {
                    black_box(limiter.check(black_box(*id)));
                }
            },
            || {
                let mut decision = CDecision::default();
                for id in &checked {
                    let id = black_box(id);
                    // Safety: the bytes of a live text, and a place for a decision.
                    black_box(unsafe { (library.check)(handle, id.as_ptr(), id.len(), 1, &raw mut decision) });
                    black_box(&decision);
                }
            },
        );
        let (data, lens): (Vec<_>, Vec<_>) = many.iter().map(|id| (id.as_ptr(), id.len())).unzip();
        let mut allowed = vec![false; 1_000];
        let mut allowed_c = vec![false; 1_000];
        compare(
            &format!("allowed_many of 1,000, {label}, per key"),
            || {
                for ids in many.chunks(1_000) {
                    let _ = black_box(limiter.allowed_many(ids, &mut allowed[..ids.len()]));
                }
            },
            || {
                for (data, lens) in data.chunks(1_000).zip(lens.chunks(1_000)) {
                    // Safety: as many of each as said.
                    black_box(unsafe {
                        (library.allowed_many)(handle, data.as_ptr(), lens.as_ptr(), data.len(), allowed_c.as_mut_ptr())
                    });
                }
            },
        );
    }
    Ok(())
}

fn main() {
    if let Err(sentence) = run() {
        eprintln!("ratelimit-c-bench: {sentence}");
        std::process::exit(1);
    }
}
