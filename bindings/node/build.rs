//! Links the addon.

fn main() {
    napi_build::setup();
    // Node.js unloads an addon with the last worker that loaded it. Code that has registered anything with the system (a
    // fork handler, a destructor of a thread) must stay where it is, so this one is never unloaded.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux" || system == "freebsd") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
        // What is shipped has no use for line tables: they are nine tenths of its size.
        println!("cargo:rustc-cdylib-link-arg=-Wl,--strip-debug");
    }
}
