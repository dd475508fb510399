//! A file that is a whole document after every write: what is appended goes over the old ending,
//! with a new ending behind it, in one write.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What can be written at any place and cut.
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

/// See the module.
pub struct WholeFile<M> {
    medium: M,
    /// What every state of the file ends with.
    ending: &'static [u8],
    /// Where the ending begins.
    end: u64,
}

impl<M: Medium> WholeFile<M> {
    /// Begins the file with `head`.
    pub fn begin(medium: M, head: &[u8], ending: &'static [u8]) -> io::Result<Self> {
        let mut file = WholeFile {
            medium,
            ending,
            end: 0,
        };
        file.append(&mut head.to_vec())?;
        Ok(file)
    }

    /// Appends the bytes and the ending (which `bytes` holds as well afterwards). On an error the
    /// file is as it was before.
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

    /// Appends a last part, which takes the place of the ending, chunk by chunk.
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

    /// Writes over bytes that are there already.
    pub fn patch(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        debug_assert!(at + bytes.len() as u64 <= self.end);
        self.medium.write_at(bytes, at)
    }

    /// The state after the last append that worked. The ending's place was written before, so a
    /// full disk does not prevent it; if it fails all the same, readers see a file cut short.
    fn restore(&mut self) {
        if self.medium.write_at(self.ending, self.end).is_ok() {
            let _ = self.medium.cut(self.end + self.ending.len() as u64);
        } else {
            let _ = self.medium.cut(self.end);
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    /// A disk of a given size: what does not fit is written up to there, then fails.
    #[derive(Clone, Default)]
    pub struct Disk {
        pub bytes: Rc<RefCell<Vec<u8>>>,
        pub size: usize,
    }

    impl Medium for Disk {
        fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
            let mut disk = self.bytes.borrow_mut();
            for (i, byte) in (at as usize..).zip(bytes) {
                if i >= self.size {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                if i >= disk.len() {
                    disk.resize(i + 1, 0);
                }
                disk[i] = *byte;
            }
            Ok(())
        }

        fn cut(&mut self, len: u64) -> io::Result<()> {
            self.bytes.borrow_mut().truncate(len as usize);
            Ok(())
        }
    }

    #[test]
    fn whole_after_every_append_and_after_a_full_disk() {
        let disk = Disk {
            size: 12,
            ..Disk::default()
        };
        let mut file = WholeFile::begin(disk.clone(), b"[0", b"]").unwrap();
        assert_eq!(*disk.bytes.borrow(), b"[0]");
        file.append(&mut b",1".to_vec()).unwrap();
        assert_eq!(*disk.bytes.borrow(), b"[0,1]");
        assert!(file.append(&mut b",123456789".to_vec()).is_err());
        assert_eq!(*disk.bytes.borrow(), b"[0,1]");
        assert!(
            file.finish([b",2".to_vec(), b",3456789]".to_vec()].into_iter())
                .is_err()
        );
        assert_eq!(*disk.bytes.borrow(), b"[0,1]");
        file.finish([b",2".to_vec(), b",3]".to_vec()].into_iter())
            .unwrap();
        assert_eq!(*disk.bytes.borrow(), b"[0,1,2,3]");
    }
}
