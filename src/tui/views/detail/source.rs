//! The source lines around a position, if the file can be read on this machine.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::sync::{LazyLock, Mutex};

use crate::model::Location;
use crate::text;

/// Lines shown before and after the position.
const AROUND: u32 = 5;
/// Larger files are not read: they are not source.
const LARGEST: u64 = 4 << 20;
/// Positions cached.
const CACHED: usize = 256;

type Lines = Vec<(u32, String)>;

static CACHE: LazyLock<Mutex<HashMap<Location, Lines>>> = LazyLock::new(Mutex::default);

/// The lines around a position with their numbers; empty if the file cannot be read.
///
/// Paths come from the debug info of other people's binaries: only regular files are opened.
pub fn around(location: &Location) -> Lines {
    let Ok(mut cache) = CACHE.lock() else {
        return Vec::new();
    };
    if let Some(lines) = cache.get(location) {
        return lines.clone();
    }
    let lines = read(location).unwrap_or_default();
    if cache.len() >= CACHED {
        cache.clear();
    }
    cache.insert(location.clone(), lines.clone());
    lines
}

fn read(location: &Location) -> Option<Lines> {
    let path = std::path::Path::new(&*location.file);
    if location.line == 0 || path.extension().is_none_or(|e| e != "rs") {
        return None;
    }
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let file = std::fs::File::open(path).ok()?.take(LARGEST);
    let first = location.line.saturating_sub(AROUND).max(1);
    let last = location.line.saturating_add(AROUND);
    let numbered = (1..=last).zip(BufReader::new(file).lines());
    let wanted = numbered.skip_while(|(number, _)| *number < first);
    let line = |(number, line): (u32, std::io::Result<String>)| {
        let line = line.ok()?.replace('\t', "    ");
        Some((number, text::clean(&line).into_owned()))
    };
    wanted.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_source_that_is_here_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.rs");
        let text: String = (1..=20).map(|n| format!("\tline {n}\n")).collect();
        std::fs::write(&path, text).unwrap();
        let at = |line| Location {
            file: path.display().to_string().into(),
            line,
        };
        let lines = around(&at(3));
        assert_eq!(lines.first(), Some(&(1, "    line 1".to_owned())));
        assert_eq!(lines.last().map(|l| l.0), Some(8));
        assert_eq!(around(&at(18)).last().map(|l| l.0), Some(20));
        assert!(around(&at(0)).is_empty());
        let device = Location {
            file: "/dev/zero".into(),
            line: 1,
        };
        assert!(around(&device).is_empty());
    }
}
