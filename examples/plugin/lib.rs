//! A shared library with a Tokio of its own, as plug-ins and extension modules of other languages have
//! it: preloaded or opened by whatever program, it starts a runtime that blocks.

use std::time::Duration;

/// Called by the dynamic linker as it loads the library.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

extern "C" fn start() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let Ok(runtime) = runtime else {
            eprintln!("plugin: no runtime");
            return;
        };
        runtime.block_on(async {
            let task = tokio::spawn(async {
                loop {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            let _: Result<(), _> = task.await;
        });
    });
}
