//! Raises hud's CPU priority, so that it is not starved on a busy machine.

/// Has about nine times the CPU weight of nice 0.
const NICE: libc::c_int = -10;

/// Raises the priority of this thread and of those it starts from now on. A priority that the user
/// gave hud stays; without CAP_SYS_NICE nothing changes.
pub fn raise() {
    // SAFETY: getpriority and setpriority have no preconditions; 0 means the calling thread.
    let raised = unsafe {
        libc::getpriority(libc::PRIO_PROCESS, 0) == 0
            && libc::setpriority(libc::PRIO_PROCESS, 0, NICE) == 0
    };
    log::debug!("own priority raised: {raised}");
}
