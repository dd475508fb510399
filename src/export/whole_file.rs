//! A file that is a complete document after every write: an append overwrites the ending and adds a
//! new one, in a single write.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Storage that can be written at any offset and truncated.
pub trait Medium {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()>;
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

impl Medium for File {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

/// A file that stays a complete document while it grows.
pub struct WholeFile<M> {
    medium: M,
    /// The end of the document.
    ending: &'static [u8],
    /// The offset of the ending.
    end: u64,
}

impl<M: Medium> WholeFile<M> {
    /// Starts the file with `head` and the ending.
    ///
    /// # Errors
    /// When writing fails.
    pub fn begin(medium: M, head: &[u8], ending: &'static [u8]) -> io::Result<Self> {
        let mut file = WholeFile {
            medium,
            ending,
            end: 0,
        };
        file.append(&mut head.to_vec())?;
        Ok(file)
    }

    /// Appends `bytes` and the ending. Leaves the ending in `bytes`, too.
    ///
    /// # Errors
    /// When writing fails; the file is unchanged then.
    pub fn append(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let len = bytes.len() as u64;
        bytes.extend_from_slice(self.ending);
        if let Err(error) = self.medium.write_at(bytes, self.end) {
            self.restore();
            return Err(error);
        }
        self.end += len;
        Ok(())
    }

    /// Replaces the ending by these chunks.
    ///
    /// # Errors
    /// When writing fails; the file is unchanged then.
    pub fn finish(&mut self, chunks: impl Iterator<Item = Vec<u8>>) -> io::Result<()> {
        let mut at = self.end;
        for chunk in chunks {
            if let Err(error) = self.medium.write_at(&chunk, at) {
                self.restore();
                return Err(error);
            }
            at += chunk.len() as u64;
        }
        Ok(())
    }

    /// Overwrites existing bytes.
    ///
    /// # Errors
    /// When writing fails.
    pub fn patch(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        debug_assert!(at + bytes.len() as u64 <= self.end);
        self.medium.write_at(bytes, at)
    }

    /// Returns to the state after the last successful append. That needs no new disk space, so it
    /// works on a full disk. Should it fail, readers see a truncated file.
    fn restore(&mut self) {
        if self.medium.write_at(self.ending, self.end).is_ok() {
            let _ = self.medium.cut(self.end + self.ending.len() as u64);
        } else {
            let _ = self.medium.cut(self.end);
        }
    }
}

/// A disk in memory for tests.
#[cfg(test)]
pub mod testing {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Writes whatever fits into `size` bytes and then fails as a full disk does.
    #[derive(Clone, Default)]
    pub struct Disk {
        pub bytes: Arc<Mutex<Vec<u8>>>,
        /// Unlimited where none.
        pub size: Option<usize>,
    }

    impl Medium for Disk {
        fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
            let mut disk = self.bytes.lock().unwrap();
            let at = at as usize;
            let free = self.size.map_or(usize::MAX, |size| size.saturating_sub(at));
            let part = &bytes[..bytes.len().min(free)];
            if disk.len() < at + part.len() {
                disk.resize(at + part.len(), 0);
            }
            disk[at..at + part.len()].copy_from_slice(part);
            match part.len() < bytes.len() {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            }
        }

        fn cut(&mut self, len: u64) -> io::Result<()> {
            self.bytes.lock().unwrap().truncate(len as usize);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Disk;
    use super::*;

    #[test]
    fn whole_after_every_append_and_after_a_full_disk() {
        let disk = Disk {
            size: Some(12),
            ..Disk::default()
        };
        let holds = |text: &[u8]| assert_eq!(*disk.bytes.lock().unwrap(), text);
        let mut file = WholeFile::begin(disk.clone(), b"[0", b"]").unwrap();
        holds(b"[0]");
        file.append(&mut b",1".to_vec()).unwrap();
        holds(b"[0,1]");
        assert!(file.append(&mut b",123456789".to_vec()).is_err());
        holds(b"[0,1]");
        let too_long = [b",2".to_vec(), b",3456789]".to_vec()];
        assert!(file.finish(too_long.into_iter()).is_err());
        holds(b"[0,1]");
        file.finish([b",2".to_vec(), b",3]".to_vec()].into_iter())
            .unwrap();
        holds(b"[0,1,2,3]");
    }
}
