//! The kernel's own account of BPF programs: how often each ran and for how long, and an empty
//! program beside hud's for what running any program costs.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use hud::bpf::types::{bss, hud_work};
use libbpf_rs::query::ProgInfoIter;
use libbpf_rs::{MapCore, MapFlags, MapHandle};

/// Runs of a program and their time, both since it was loaded with statistics on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    pub count: u64,
    pub ns: u64,
}

impl Runs {
    /// What came since `earlier`.
    pub fn since(self, earlier: Runs) -> Runs {
        Runs {
            count: self.count - earlier.count,
            ns: self.ns - earlier.ns,
        }
    }

    /// Mean nanoseconds of a run; NaN when there was none.
    pub fn mean_ns(self) -> f64 {
        self.ns as f64 / self.count as f64
    }
}

/// The kernel measures every run of every BPF program for as long as this lives. The measuring
/// itself costs some tens of ns a run, which an empty program pays too.
pub struct Statistics {
    _fd: OwnedFd,
}

impl Statistics {
    pub fn enable() -> Result<Statistics> {
        // SAFETY: no preconditions.
        let fd = unsafe { libbpf_sys::bpf_enable_stats(libbpf_sys::BPF_STATS_RUN_TIME) };
        Ok(Statistics {
            _fd: owned(fd).context("cannot switch on the kernel's BPF statistics")?,
        })
    }
}

/// A program of two instructions, `r0 = 0; exit`, attached to sched_switch as hud's own is.
pub struct EmptyProgram {
    id: u32,
    _program: OwnedFd,
    _link: OwnedFd,
}

impl EmptyProgram {
    pub fn attach() -> Result<EmptyProgram> {
        let instruction = |code: u32| libbpf_sys::bpf_insn {
            code: code as u8,
            ..Default::default()
        };
        let move_zero = libbpf_sys::BPF_ALU64 | libbpf_sys::BPF_MOV | libbpf_sys::BPF_K;
        let exit = libbpf_sys::BPF_JMP | libbpf_sys::BPF_EXIT;
        let instructions = [instruction(move_zero), instruction(exit)];
        let tracepoint = CString::new("sched_switch")?;
        let (name, license) = (CString::new("empty")?, CString::new("Dual MIT/GPL")?);
        // SAFETY: the string outlives the call.
        let target = unsafe {
            libbpf_sys::libbpf_find_vmlinux_btf_id(
                tracepoint.as_ptr(),
                libbpf_sys::BPF_TRACE_RAW_TP,
            )
        };
        ensure!(target > 0, "the kernel's BTF has no sched_switch");
        let mut options = libbpf_sys::bpf_prog_load_opts {
            sz: size_of::<libbpf_sys::bpf_prog_load_opts>() as libbpf_sys::size_t,
            expected_attach_type: libbpf_sys::BPF_TRACE_RAW_TP,
            attach_btf_id: target as u32,
            ..Default::default()
        };
        // SAFETY: everything passed outlives the call.
        let program = owned(unsafe {
            libbpf_sys::bpf_prog_load(
                libbpf_sys::BPF_PROG_TYPE_TRACING,
                name.as_ptr(),
                license.as_ptr(),
                instructions.as_ptr(),
                instructions.len() as libbpf_sys::size_t,
                &mut options,
            )
        })
        .context("cannot load an empty program")?;
        // SAFETY: a tracing program knows its tracepoint and takes no name.
        let link =
            owned(unsafe { libbpf_sys::bpf_raw_tracepoint_open(std::ptr::null(), raw(&program)) })
                .context("cannot attach an empty program")?;
        let id = ids("prog_id:", std::process::id())?
            .pop()
            .context("the empty program has no id")?;
        Ok(EmptyProgram {
            id,
            _program: program,
            _link: link,
        })
    }

    pub fn runs(&self) -> Result<Runs> {
        runs_of(|id, _| id == self.id).context("the empty program is gone")
    }
}

/// hud's programs in the kernel, found through the descriptors its process holds.
pub struct HudPrograms {
    programs: Vec<u32>,
    globals: MapHandle,
}

impl HudPrograms {
    pub fn of(pid: u32) -> Result<HudPrograms> {
        let globals = ids("map_id:", pid)?
            .into_iter()
            .filter_map(|id| MapHandle::from_map_id(id).ok())
            .find(|map| {
                map.name().to_string_lossy().ends_with(".bss")
                    && map.value_size() as usize == size_of::<bss>()
            })
            .context("hud holds no map of globals")?;
        Ok(HudPrograms {
            programs: ids("prog_id:", pid)?,
            globals,
        })
    }

    /// The runs of the program of this name.
    pub fn runs(&self, name: &str) -> Result<Runs> {
        self.find(name)
            .with_context(|| format!("hud runs no program {name}"))
    }

    /// The runs of what gives samples here.
    pub fn samples(&self) -> Result<Runs> {
        match self.find("tick").filter(|runs| runs.count > 0) {
            Some(runs) => Ok(runs),
            None => self.runs("cpu_clock"),
        }
    }

    fn find(&self, name: &str) -> Option<Runs> {
        runs_of(|id, its_name| self.programs.contains(&id) && its_name == name)
    }

    /// How often the dearer paths were taken.
    pub fn work(&self) -> Result<hud_work> {
        let bytes = self
            .globals
            .lookup(&0u32.to_ne_bytes(), MapFlags::ANY)?
            .context("hud's globals are gone")?;
        let at = std::mem::offset_of!(bss, work);
        let read = |field: usize| {
            let bytes = bytes.get(at + field..)?.first_chunk()?;
            Some(u64::from_ne_bytes(*bytes))
        };
        let work = || {
            Some(hud_work {
                reads: read(std::mem::offset_of!(hud_work, reads))?,
                captures: read(std::mem::offset_of!(hud_work, captures))?,
                samples: read(std::mem::offset_of!(hud_work, samples))?,
                releases: read(std::mem::offset_of!(hud_work, releases))?,
                long_waits: read(std::mem::offset_of!(hud_work, long_waits))?,
            })
        };
        work().context("hud's globals are too short")
    }
}

fn runs_of(fits: impl Fn(u32, &str) -> bool) -> Option<Runs> {
    ProgInfoIter::default()
        .find(|program| fits(program.id, &program.name.to_string_lossy()))
        .map(|program| Runs {
            count: program.run_cnt,
            ns: program.run_time_ns,
        })
}

/// The numbers behind `key` in the process's descriptors: ids of BPF programs or maps.
fn ids(key: &str, pid: u32) -> Result<Vec<u32>> {
    let folder = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
    let mut found: Vec<u32> = entries
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok())
        .filter_map(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            line.trim().parse().ok()
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn raw(fd: &OwnedFd) -> i32 {
    std::os::fd::AsRawFd::as_raw_fd(fd)
}

/// A descriptor that a libbpf call returned, or its error.
fn owned(fd: i32) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: a fresh descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
