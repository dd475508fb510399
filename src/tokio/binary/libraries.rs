//! Finds Tokio in shared libraries of the target, where hud cannot track it, to report which library
//! has it.

use std::collections::HashSet;
use std::path::PathBuf;

use super::tokio_in;
use crate::target::mapped_file::open;
use crate::target::mappings;

/// The first library that has Tokio linked in, and the version. Files that cannot be read are
/// skipped.
pub fn tokio(pid: u32) -> Option<(PathBuf, String)> {
    let all = mappings::of(pid).ok()?;
    let main = std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    let mut seen = HashSet::new();
    let libraries = all.iter().filter(|mapping| {
        mapping.is_code
            && !mapping.is_vdso()
            && main.as_ref() != Some(&mapping.path)
            && seen.insert(mapping.identity)
    });
    for mapping in libraries {
        let versions = open(pid, mapping, false, &all).map(|file| tokio_in(&file));
        if let Some(version) = versions.ok().and_then(|versions| versions.last().cloned()) {
            return Some((mapping.path.clone(), version));
        }
    }
    None
}
