//! Tokio in a shared library.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use testing::target::{hud, target_dir};

#[test]
fn tokio_in_a_shared_library_is_named() {
    let library = target_dir().join("release/examples/libplugin.so");
    assert!(library.exists(), "{} is not built", library.display());
    let mut host = Command::new("sleep")
        .arg("60")
        .env("LD_PRELOAD", &library)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // hud reads the process as it is: the library must have been loaded.
    let maps = format!("/proc/{}/maps", host.id());
    let loaded = (0..200).any(|_| {
        thread::sleep(Duration::from_millis(20));
        std::fs::read_to_string(&maps).is_ok_and(|maps| maps.contains("libplugin.so"))
    });
    let pid = host.id().to_string();
    let output = hud(&["--headless", "--duration", "1", "--pid", &pid])
        .output()
        .unwrap();
    let _ = host.kill();
    let _ = host.wait();
    assert!(loaded, "the library was not loaded");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{errors}");
    for part in [
        "Tokio 1.",
        "libplugin.so",
        "shared library",
        "linked into the executable",
    ] {
        assert!(errors.contains(part), "no {part:?} in {errors}");
    }
}
