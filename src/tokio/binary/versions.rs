//! Versions of Tokio linked into an executable, from the source paths of panic messages in its
//! constants. A stripped executable has them as well.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use memchr::memmem;

use super::elf::Elf;

/// A release of Tokio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// Part of a path of Tokio's sources that is followed by the version and `/src`.
const PREFIX: &[u8] = b"/tokio-";

/// How far chunks overlap: more than the longest prefix and version.
const OVERLAP: usize = 64;

/// The versions of Tokio whose source paths are in the executable's constants, ascending.
///
/// What cannot be read counts as absent.
pub fn tokio(file: &File, elf: &Elf<'_>) -> Vec<Version> {
    let mut found = Vec::new();
    for range in elf.constants() {
        scan(file, range, &mut found);
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn scan(file: &File, range: Range<u64>, found: &mut Vec<Version>) {
    let finder = memmem::Finder::new(PREFIX);
    let mut buffer = vec![0; CHUNK];
    let mut at = range.start;
    while at < range.end {
        let want = usize::try_from(range.end - at).map_or(CHUNK, |left| left.min(CHUNK));
        let Some(window) = buffer.get_mut(..want) else {
            return;
        };
        let Ok(read) = file.read_at(window, at) else {
            return;
        };
        let bytes = &window[..read];
        for start in finder.find_iter(bytes) {
            if let Some(version) = parse(&bytes[start + PREFIX.len()..]) {
                found.push(version);
            }
        }
        // A string across the border is whole in the next chunk.
        let step = read.saturating_sub(OVERLAP);
        if step == 0 || at + read as u64 >= range.end {
            return;
        }
        at += step as u64;
    }
}

/// `1.54.1/src` as a version.
fn parse(bytes: &[u8]) -> Option<Version> {
    let end = bytes.iter().take(OVERLAP).position(|byte| *byte == b'/')?;
    if !bytes[end..].starts_with(b"/src") {
        return None;
    }
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    // A pre-release or build suffix does not change the layout.
    let text = text.split(['-', '+']).next()?;
    let mut parts = text.split('.').map(|part| part.parse().ok());
    let version = Version {
        major: parts.next()??,
        minor: parts.next()??,
        patch: parts.next()??,
    };
    parts.next().is_none().then_some(version)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn versions_are_read_from_source_paths() {
        let version = |text: &str| parse(text.as_bytes()).map(|v| v.to_string());
        assert_eq!(version("1.54.1/src/time"), Some("1.54.1".into()));
        assert_eq!(version("1.54.1-rc.1/src/x"), Some("1.54.1".into()));
        assert_eq!(version("1.54.1/tests/x"), None);
        assert_eq!(version("util-0.7.1/src/x"), None);
        assert_eq!(version("1.54/src"), None);
        assert_eq!(version("1.54.1.7/src"), None);
        assert_eq!(version("1.54.99999999999/src"), None);
    }

    #[test]
    fn a_path_across_two_chunks_is_found() {
        let path = b"/x/tokio-1.44.2/src/lib.rs";
        for shift in 0..path.len() + 4 {
            let mut bytes = vec![b' '; CHUNK - shift];
            bytes.extend_from_slice(path);
            bytes.extend_from_slice(&[b' '; 100]);
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            let mut found = Vec::new();
            scan(&file, 0..bytes.len() as u64, &mut found);
            assert!(!found.is_empty(), "shift {shift}");
        }
    }
}
