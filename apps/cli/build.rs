//! How the program is linked: what is equal in it stands in it once, and small.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = env::var("TARGET").unwrap_or_default();
    // Here rustc brings its own linker along, LLD. Others would not know these words.
    if target == "x86_64-unknown-linux-gnu" {
        // Functions whose code is equal and whose address nobody compares.
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=safe");
        if env::var("HOST").is_ok_and(|host| host == target) && knows_packed_relocations() {
            println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        }
    }
}

/// Whether the C library here, with which the program is linked, loads what has relocations in their
/// packed form: since 2.36. They take a twentieth of the room.
fn knows_packed_relocations() -> bool {
    let Ok(said) = Command::new("getconf").arg("GNU_LIBC_VERSION").output() else {
        return false;
    };
    let said = String::from_utf8_lossy(&said.stdout);
    let version = said.trim().strip_prefix("glibc ");
    let numbers = version.and_then(|version| version.split_once('.'));
    let Some((Ok(major), Ok(minor))) =
        numbers.map(|(major, minor)| (major.parse::<u32>(), minor.parse::<u32>()))
    else {
        return false;
    };
    (major, minor) >= (2, 36)
}
