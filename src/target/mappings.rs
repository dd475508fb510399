//! Parses the lines of `/proc/PID/maps` that show files.

use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One line of `/proc/PID/maps` that comes from a file or is the vDSO.
#[derive(Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Addresses in the process.
    pub range: Range<u64>,
    /// Offset of its first byte in the file.
    pub offset: u64,
    /// Identifies the mapped file: device, inode.
    pub identity: (u64, u64),
    /// The path as the process's mount namespace has it, or `[vdso]`.
    pub path: PathBuf,
    /// The path no longer leads to the mapped file.
    pub deleted: bool,
    /// It holds code.
    pub is_code: bool,
    /// Its bytes are those of the file: readable, and never written to.
    pub is_constant: bool,
}

impl Mapping {
    /// Parses a line; None unless it shows a file or the vDSO.
    pub fn parse(line: &[u8]) -> Option<Mapping> {
        let mut rest = line;
        let mut field = || {
            let end = rest.iter().position(|&byte| byte == b' ')?;
            let (field, tail) = rest.split_at(end);
            rest = tail.get(1..)?;
            std::str::from_utf8(field).ok()
        };
        let (start, end) = field()?.split_once('-')?;
        let permissions = field()?;
        let offset = field()?;
        let device = field()?;
        let inode = field()?.parse().ok()?;
        let path = rest.trim_ascii_start();
        let is_vdso = path == b"[vdso]";
        let permissions = permissions.as_bytes();
        let may = |at: usize, what: u8| permissions.get(at) == Some(&what);
        if !(path.starts_with(b"/") || is_vdso) {
            return None;
        }
        let (major, minor) = device.split_once(':')?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let range = hex(start)?..hex(end)?;
        if range.is_empty() {
            return None;
        }
        let (path, deleted) = match path.strip_suffix(b" (deleted)") {
            Some(path) => (path, true),
            None => (path, false),
        };
        Some(Mapping {
            range,
            offset: hex(offset)?,
            identity: ((hex(major)? << 32) | hex(minor)?, inode),
            path: PathBuf::from(std::ffi::OsString::from_vec(unescape(path))),
            deleted,
            is_code: may(2, b'x'),
            is_constant: may(0, b'r') && !may(1, b'w'),
        })
    }

    /// Whether it is the kernel's own library.
    pub fn is_vdso(&self) -> bool {
        self.path.as_os_str() == "[vdso]"
    }
}

/// The mappings of a process, ascending by address; none for one that is exiting.
///
/// # Errors
/// When they cannot be read.
pub fn of(pid: u32) -> io::Result<Vec<Mapping>> {
    let text = std::fs::read(format!("/proc/{pid}/maps"))?;
    let lines = text.split(|&byte| byte == b'\n');
    Ok(lines.filter_map(Mapping::parse).collect())
}

/// Undoes the escape that the kernel's `seq_path` uses for newlines.
fn unescape(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, tail)) = rest.split_first() {
        match rest.strip_prefix(b"\\012") {
            Some(after) => {
                plain.push(b'\n');
                rest = after;
            }
            None => {
                plain.push(first);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_files_are_kept_and_code_is_recognised() {
        let line =
            b"55d0c8a3f000-55d0c8b00000 r-xp 0002f000 fd:01 1234       /srv/my app\\012x (deleted)";
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!(mapping.range, 0x55d0_c8a3_f000..0x55d0_c8b0_0000);
        assert_eq!(mapping.offset, 0x2f000);
        assert_eq!(mapping.path, Path::new("/srv/my app\nx"));
        assert!(mapping.deleted && mapping.is_code && mapping.is_constant);
        let data = Mapping::parse(b"55d0c8a3f000-55d0c8b00000 rw-p 00000000 fd:01 12 /srv/app");
        assert!(data.is_some_and(|data| !data.is_code && !data.is_constant));
        for other in [
            &b"7ffd1000-7ffd2000 rw-p 00000000 00:00 0   [stack]"[..],
            b"7f0000000000-7f0000001000 rwxp 00000000 00:00 0 ",
            b"2000-1000 r-xp 00000000 00:00 0   /srv/app",
            b"",
        ] {
            assert_eq!(Mapping::parse(other), None);
        }
    }

    proptest! {
        #[test]
        fn any_line_is_survived(line in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = Mapping::parse(&line);
        }
    }
}
