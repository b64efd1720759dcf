//! Arguments for the linker: the name by which programs find the shared library, and that it is never unloaded.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    let part = |name: &str| std::env::var(name).unwrap_or_default();
    // Before 1.0 a minor version may change the interface, so it is part of the name.
    let (major, minor) = (part("CARGO_PKG_VERSION_MAJOR"), part("CARGO_PKG_VERSION_MINOR"));
    let soname = match major.as_str() {
        "0" => format!("libratelimit.so.0.{minor}"),
        _ => format!("libratelimit.so.{major}"),
    };
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,{soname}");
    // Threads of the host may be inside a call, and have our destructor registered, when the host calls dlclose.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
