//! What a user would run instead of hud, to be measured on the same load in the same minute.

use std::time::Duration;

use crate::programs::Target;

/// How long they take to be at work: bpftrace compiles, and looks for the probes.
pub const WARM_UP: Duration = Duration::from_secs(4);

/// A tool and how it is called.
pub struct Tool {
    pub title: &'static str,
    /// The program that must be installed.
    program: &'static str,
    /// Its arguments, in which PID and EXE stand for the target's.
    arguments: &'static [&'static str],
}

/// Profilers, and tracers of what hud reads from Tokio's state.
pub const TOOLS: &[Tool] = &[
    Tool {
        title: "perf record -F 250 --call-graph dwarf",
        program: "perf",
        arguments: &[
            "record",
            "-q",
            "-F",
            "250",
            "--call-graph",
            "dwarf",
            "-p",
            "PID",
            "-o",
            "/dev/null",
        ],
    },
    Tool {
        title: "bpftrace, off-CPU stacks at every switch",
        program: "bpftrace",
        arguments: &[
            "-e",
            "tracepoint:sched:sched_switch /pid == PID/ { @start[tid] = nsecs; @stack[tid] = ustack; } \
             tracepoint:sched:sched_switch /@start[args->next_pid]/ { \
             @ns[@stack[args->next_pid]] = sum(nsecs - @start[args->next_pid]); \
             delete(@start[args->next_pid]); }",
        ],
    },
    Tool {
        title: "bpftrace, uprobes on every poll",
        program: "bpftrace",
        arguments: &[
            "-e",
            "uprobe:EXE:*runtime*task*raw*poll* { @start[tid] = nsecs; } \
             uretprobe:EXE:*runtime*task*raw*poll* /@start[tid]/ { \
             @ns = hist(nsecs - @start[tid]); delete(@start[tid]); }",
        ],
    },
];

impl Tool {
    /// Whether it can be run here.
    pub fn is_installed(&self) -> bool {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&folders).any(|folder| folder.join(self.program).is_file())
    }

    /// The command that points it at a target.
    pub fn command(&self, target: &Target) -> Vec<String> {
        let pid = target.pid.to_string();
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let fill = |argument: &&str| {
            argument
                .replace("PID", &pid)
                .replace("EXE", &exe.display().to_string())
        };
        std::iter::once(self.program.to_owned())
            .chain(self.arguments.iter().map(fill))
            .collect()
    }
}
