//! hud's own share of the CPU: who watches a machine that has too much to do must not wait behind
//! all of it.

/// As nice values go: nine times the share of a thread of the usual 0.
const NICE: libc::c_int = -10;

/// Lets this thread, and those that it starts from now on, run before threads of usual priority.
/// Whoever gave hud a priority of its own keeps it; without CAP_SYS_NICE nothing changes.
pub fn raise() {
    // SAFETY: getpriority and setpriority have no preconditions; 0 means the calling thread.
    let raised = unsafe {
        libc::getpriority(libc::PRIO_PROCESS, 0) == 0
            && libc::setpriority(libc::PRIO_PROCESS, 0, NICE) == 0
    };
    log::debug!("own priority raised: {raised}");
}
