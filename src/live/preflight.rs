//! Checks that run before anything is attached: this machine, hud's privileges, the process and its
//! executable. Each failed check is a [`Failure`] with a hint.

use std::fs::File;
use std::io;

use procfs::process::Process;

use crate::failure::{Failure, Kind};
use crate::target::memory::{Memory, ProcessMemory};
use crate::target::process::{CAP_SYS_PTRACE, Target, access_hint, capabilities_hint, readable};
use crate::tokio::Discovery;
use crate::tokio::libraries;

/// The oldest kernel with the BPF ring buffer and `CAP_BPF`.
const MIN_KERNEL: (u16, u8) = (5, 8);

/// Type information of the running kernel; libbpf relocates the BPF programs by it (CO-RE).
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// The initial PID namespace (`PROC_PID_INIT_INO`).
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// The capabilities hud needs, each with a wider one that includes it.
const NEEDED: [(&str, u32, Option<u32>); 3] = [
    ("CAP_BPF", CAP_BPF, Some(CAP_SYS_ADMIN)),
    ("CAP_PERFMON", CAP_PERFMON, Some(CAP_SYS_ADMIN)),
    ("CAP_SYS_PTRACE", CAP_SYS_PTRACE, None),
];

/// What [`system`] checks: facts about the machine and hud's own process.
#[derive(Clone, Debug, PartialEq, Eq)]
struct System {
    /// Version of the kernel, major and minor; None where it cannot be read.
    kernel: Option<(u16, u8)>,
    has_btf: bool,
    /// Kernel lockdown is in confidentiality mode: BPF may not read memory.
    locked_down: bool,
    /// hud's effective capabilities, one bit each.
    capabilities: u64,
    /// hud runs in a user namespace of its own: its capabilities do not count for BPF.
    in_user_namespace: bool,
    /// hud runs in a PID namespace of its own: the PIDs in BPF events are not those hud sees.
    in_pid_namespace: bool,
}

impl System {
    fn read() -> System {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let status = Process::myself().and_then(|process| process.status());
        let uid_map = text("/proc/self/uid_map");
        let mut uid_map = uid_map.split_whitespace();
        System {
            kernel: procfs::sys::kernel::Version::current()
                .ok()
                .map(|version| (u16::from(version.major), version.minor)),
            has_btf: std::fs::metadata(BTF).is_ok(),
            locked_down: text("/sys/kernel/security/lockdown").contains("[confidentiality]"),
            capabilities: status.map_or(0, |status| status.capeff),
            in_user_namespace: uid_map.nth(2).is_some_and(|size| size != "4294967295"),
            in_pid_namespace: std::fs::read_link("/proc/self/ns/pid")
                .is_ok_and(|link| link.as_os_str() != FIRST_PID_NAMESPACE),
        }
    }

    fn judge(&self) -> Result<(), Failure> {
        if let Some((major, minor)) = self.kernel.filter(|kernel| *kernel < MIN_KERNEL) {
            let what = format!("Linux {major}.{minor} is too old: hud needs 5.8 or newer");
            return Err(Failure::new(Kind::Failed, what)
                .hint("update the kernel, or run hud on a newer machine"));
        }
        self.privileges()?;
        if !self.has_btf {
            let what = format!("the kernel has no type information ({BTF} is missing)");
            return Err(Failure::new(Kind::Failed, what).hint(
                "use a kernel built with CONFIG_DEBUG_INFO_BTF=y (all current distributions' are); \
                 in a container, mount the host's /sys",
            ));
        }
        if self.in_pid_namespace {
            let what = "hud runs in a PID namespace of its own, where processes have other numbers \
                        than the kernel's";
            return Err(Failure::new(Kind::Failed, what).hint(
                "run hud on the host, or give its container the host's: docker run --pid=host, \
                 hostPID: true",
            ));
        }
        if self.locked_down {
            let what = "the kernel is locked down: BPF may not read memory";
            return Err(
                Failure::new(Kind::Failed, what).hint("boot without lockdown=confidentiality")
            );
        }
        Ok(())
    }

    fn privileges(&self) -> Result<(), Failure> {
        let has = |capability: u32| self.capabilities & (1 << capability) != 0;
        let missing: Vec<&str> = NEEDED
            .iter()
            .filter(|(_, itself, wider)| !has(*itself) && !wider.is_some_and(has))
            .map(|(name, ..)| *name)
            .collect();
        if !missing.is_empty() {
            let what = format!("not permitted: hud lacks {}", missing.join(", "));
            return Err(Failure::new(Kind::Permission, what).hint(capabilities_hint()));
        }
        if self.in_user_namespace {
            let what =
                "not permitted: hud runs in a user namespace, whose root is not the kernel's";
            return Err(Failure::new(Kind::Permission, what)
                .hint("run hud on the host, or in a container without user namespaces"));
        }
        Ok(())
    }
}

/// Checks that this machine and hud's own privileges suffice.
///
/// # Errors
/// The first check that fails: kernel version, capabilities and user namespace
/// ([`Kind::Permission`]), BTF, PID namespace, lockdown.
pub fn system() -> Result<(), Failure> {
    System::read().judge()
}

/// The note for the user where the kernel hides the addresses of its functions from hud, which
/// then cannot name frames in the kernel; None where it does not.
pub fn kernel_names() -> Option<String> {
    use std::io::{BufRead as _, BufReader};
    let symbols = File::open("/proc/kallsyms").ok();
    let lines = symbols
        .into_iter()
        .flat_map(|file| BufReader::new(file).lines());
    hides_functions(lines.map_while(Result::ok)).then(|| {
        "frames in the kernel have no names: they need CAP_SYSLOG as well (setcap \
         cap_bpf,cap_perfmon,cap_sys_ptrace,cap_syslog=ep), and kernel.kptr_restrict below 2"
            .to_owned()
    })
}

/// A note for the user where the process is stopped: until it continues, nothing runs in it.
pub fn stopped(target: &Target) -> Option<String> {
    let pid = i32::try_from(target.pid).ok()?;
    let state = Process::new(pid).ok()?.stat().ok()?.state;
    let by = match state {
        'T' => "a signal",
        't' => "a debugger",
        _ => return None,
    };
    Some(format!(
        "PID {pid} ({}) is stopped by {by}: nothing runs in it until it continues",
        target.comm
    ))
}

/// Whether the first function in these lines of `/proc/kallsyms` has the address 0, or there is no
/// function. Symbols that are not functions may truly be at 0: per-CPU variables on x86-64 before
/// Linux 6.15 (9d7de2aa8b41).
fn hides_functions(lines: impl Iterator<Item = String>) -> bool {
    let mut functions = lines.filter_map(|line| {
        let (address, rest) = line.split_once(' ')?;
        rest.starts_with(['t', 'T']).then_some(address.to_owned())
    });
    functions
        .next()
        .is_none_or(|address| address.bytes().all(|digit| digit == b'0'))
}

/// Checks that hud may read the process's memory map, executable and memory.
///
/// # Errors
/// [`Kind::Permission`] when it may not; [`Kind::Failed`] when the process has exited.
pub fn process(target: &Target) -> Result<(), Failure> {
    let pid = target.pid;
    let number = i32::try_from(pid).map_err(|_| target.exited())?;
    let process = readable(pid, Process::new(number))?;
    let maps = readable(pid, process.maps())?;
    let first = maps.iter().find(|map| {
        let needed = procfs::process::MMPermissions::READ;
        map.perms.contains(needed)
    });
    let refused = |what: &str, error: &io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let what = format!("not permitted to read the {what} of process {pid}");
            Failure::new(Kind::Permission, what).hint(access_hint())
        }
        _ if !target.is_alive() => target.exited(),
        _ => {
            let what = format!("the {what} of process {pid} cannot be read: {error}");
            Failure::new(Kind::Failed, what)
        }
    };
    if let Err(error) = File::open(format!("/proc/{pid}/exe")) {
        return Err(refused("executable", &error));
    }
    let memory = ProcessMemory::new(pid);
    match first.map(|map| memory.read_u64(map.address.0)) {
        Some(Err(error)) => Err(refused("memory", &error)),
        Some(Ok(_)) => Ok(()),
        None => Err(target.exited()),
    }
}

/// Checks that the executable is a Tokio program whose polls hud can track. Returns notes for the
/// user (missing symbols, missing line tables), one line each.
///
/// # Errors
/// When it contains no Tokio, or one that is too old or in a shared library.
pub fn program(target: &Target, discovery: &Discovery) -> Result<Vec<String>, Failure> {
    let name = &target.comm;
    let fail = |what: String, hint: &str| Err(Failure::new(Kind::Failed, what).hint(hint));
    let version = discovery.tokio_version();
    match version {
        None if !discovery.context_symbol => {
            if let Some((library, version)) = libraries::tokio(target.pid) {
                return fail(
                    format!(
                        "the Tokio {version} of {name} (PID {}) is in a shared library, {}, where \
                         hud cannot follow it",
                        target.pid,
                        library.display()
                    ),
                    "hud follows a Tokio that is linked into the executable: call the library's \
                     code from a Rust program of its own, and watch that",
                );
            }
            let what = if discovery.has_symbols {
                format!("{name} (PID {}) is not a Tokio program", target.pid)
            } else {
                format!(
                    "{name} (PID {}) is not a Tokio program, or it is stripped",
                    target.pid
                )
            };
            return fail(
                what,
                "choose a process that runs Tokio; for a stripped one, name its unstripped file: \
                 --symbols FILE",
            );
        }
        Some(version) if !discovery.context_symbol && discovery.has_symbols => {
            return fail(
                format!("{name} contains Tokio {version}, but not its scheduler's state"),
                "hud looks at the executable itself, not at shared libraries, and needs Tokio 1.20 \
                 or newer with the feature rt",
            );
        }
        _ => {}
    }
    if discovery.exact.is_empty() && discovery.shapes.is_empty() {
        let version = version.unwrap_or("of an unknown version");
        let what = match &discovery.debug_info_problem {
            Some(problem) => {
                format!("the layout of Tokio {version} in {name} is unknown: {problem}")
            }
            None => {
                format!("Tokio {version} in {name} is older than 1.20, the oldest that hud knows")
            }
        };
        return fail(what, "build with Tokio 1.20 or newer");
    }
    let mut warnings = Vec::new();
    if let Some(problem) = &discovery.debug_info_problem {
        warnings.push(format!(
            "the debug info cannot be used for poll tracking: {problem}"
        ));
    }
    if !discovery.has_symbols {
        warnings.push(
            "stripped of its symbols: functions are shown as addresses; \
             name its unstripped file with --symbols FILE to see them"
                .to_owned(),
        );
    } else if !discovery.has_lines {
        warnings.push(
            "no debug info: functions are named, files and lines are not; \
             build with debug = \"line-tables-only\" to see them"
                .to_owned(),
        );
    }
    Ok(warnings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokio::discover;

    fn good() -> System {
        System {
            kernel: Some((6, 1)),
            has_btf: true,
            locked_down: false,
            capabilities: 1 << CAP_BPF | 1 << CAP_PERFMON | 1 << CAP_SYS_PTRACE,
            in_user_namespace: false,
            in_pid_namespace: false,
        }
    }

    fn oneself() -> Target {
        Target::open(std::process::id()).unwrap()
    }

    #[test]
    fn kernel_functions_are_hidden_only_where_one_of_them_lies_at_zero() {
        let hides = |text: &str| hides_functions(text.lines().map(str::to_owned));
        let per_cpu = "0000000000000000 A fixed_percpu_data\n0000000000000000 A __per_cpu_start\n";
        assert!(!hides(&format!("{per_cpu}ffffffff81000000 T startup_64\n")));
        assert!(hides(&format!("{per_cpu}0000000000000000 T startup_64\n")));
        assert!(hides(per_cpu));
    }

    #[test]
    fn the_three_capabilities_suffice() {
        assert_eq!(good().judge(), Ok(()));
        let admin = System {
            capabilities: 1 << CAP_SYS_ADMIN | 1 << CAP_SYS_PTRACE,
            ..good()
        };
        assert_eq!(admin.judge(), Ok(()));
    }

    #[test]
    fn missing_capabilities_are_named() {
        for (name, bit, _) in NEEDED {
            let system = System {
                capabilities: good().capabilities & !(1 << bit),
                ..good()
            };
            let failure = system.judge().unwrap_err();
            assert_eq!(failure.kind, Kind::Permission);
            assert_eq!(failure.what, format!("not permitted: hud lacks {name}"));
            assert!(failure.hint.is_some());
        }
    }

    #[test]
    fn old_kernels_and_missing_btf_are_named() {
        let old = System {
            kernel: Some((5, 4)),
            ..good()
        };
        assert!(old.judge().unwrap_err().what.contains("5.4"));
        let bare = System {
            has_btf: false,
            ..good()
        };
        assert!(bare.judge().unwrap_err().what.contains(BTF));
        let namespaced = System {
            in_user_namespace: true,
            ..good()
        };
        assert_eq!(namespaced.judge().unwrap_err().kind, Kind::Permission);
        let renumbered = System {
            in_pid_namespace: true,
            ..good()
        };
        let failure = renumbered.judge().unwrap_err();
        assert!(failure.hint.unwrap().contains("--pid=host"));
    }

    #[test]
    fn ones_own_process_is_readable_and_an_ended_one_is_not() {
        process(&oneself()).unwrap();
        let ended = Target {
            pid: 4_194_305,
            ..oneself()
        };
        assert!(process(&ended).unwrap_err().what.contains("4194305"));
    }

    #[test]
    fn a_program_without_tokio_is_refused() {
        let discovery = discover("/bin/sleep".as_ref(), None).unwrap();
        let failure = program(&oneself(), &discovery).unwrap_err();
        assert!(failure.what.contains("not a Tokio program"));
    }

    #[test]
    fn stripped_programs_are_taken_and_old_ones_are_not() {
        let own = discover("/proc/self/exe".as_ref(), None).unwrap();
        let stripped = Discovery {
            tokio_versions: vec!["1.54.1".into()],
            shapes: own.shapes.clone(),
            thread_local_block: own.thread_local_block,
            ..Discovery::default()
        };
        let warnings = program(&oneself(), &stripped).unwrap();
        assert!(warnings.iter().any(|line| line.contains("--symbols")));
        let old = Discovery {
            tokio_versions: vec!["1.10.0".into()],
            context_symbol: true,
            has_symbols: true,
            ..Discovery::default()
        };
        assert!(
            program(&oneself(), &old)
                .unwrap_err()
                .what
                .contains("1.10.0")
        );
    }

    #[test]
    fn missing_lines_are_only_a_warning() {
        // The test program itself: it has Tokio as a dev-dependency.
        let own = discover("/proc/self/exe".as_ref(), None).unwrap();
        assert_eq!(program(&oneself(), &own), Ok(vec![]));
        let bare = Discovery {
            has_lines: false,
            ..own
        };
        let warnings = program(&oneself(), &bare).unwrap();
        assert!(
            warnings
                .iter()
                .any(|line| line.contains("line-tables-only"))
        );
    }
}
