//! Reads another process's memory.

use std::io;

/// Memory that can be read by address: of a live process, or made by a test.
pub trait Memory {
    /// Fills `buffer` from `address`.
    ///
    /// # Errors
    /// When any of it is not mapped or may not be read, or the process is gone.
    fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// The word at `address`.
    ///
    /// # Errors
    /// As [`Memory::read`].
    fn read_u64(&self, address: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The half word at `address`.
    ///
    /// # Errors
    /// As [`Memory::read`].
    fn read_u32(&self, address: u64) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }
}

/// Memory is read in pieces of this size, the smallest page of both architectures.
const PAGE: u64 = 4096;
/// Limit of a stack, bytes: the same as that of the BPF programs.
const MAX_STACK: usize = 128 * 1024;

/// A thread's stack from the page of its stack pointer up to the first page that cannot be read,
/// where its mapping ends. Returns the address of the first byte, and the bytes.
pub fn read_stack(memory: &dyn Memory, stack_pointer: u64) -> (u64, Vec<u8>) {
    let base = stack_pointer & !(PAGE - 1);
    let mut bytes = Vec::new();
    let mut page = [0; PAGE as usize];
    while bytes.len() < MAX_STACK
        && memory
            .read(base.wrapping_add(bytes.len() as u64), &mut page)
            .is_ok()
    {
        bytes.extend_from_slice(&page);
    }
    (base, bytes)
}

/// The memory of a live process, read with `process_vm_readv`. This needs `CAP_SYS_PTRACE` (or the
/// same user, where Yama allows it) and does not stop the process.
#[derive(Clone, Copy, Debug)]
pub struct ProcessMemory {
    pid: libc::pid_t,
}

impl ProcessMemory {
    /// The memory of the process (or of the thread's process) `pid`.
    pub fn new(pid: u32) -> Self {
        // Larger numbers are never a PID, and -1 makes reads fail with "no such process".
        ProcessMemory {
            pid: libc::pid_t::try_from(pid).unwrap_or(-1),
        }
    }
}

impl Memory for ProcessMemory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let from = address
                .checked_add(done as u64)
                .and_then(|from| usize::try_from(from).ok())
                .ok_or(io::ErrorKind::InvalidInput)?;
            let local = libc::iovec {
                iov_base: rest.as_mut_ptr().cast(),
                iov_len: rest.len(),
            };
            let remote = libc::iovec {
                iov_base: from as *mut libc::c_void,
                iov_len: rest.len(),
            };
            // SAFETY: `local` is exactly the rest of `buffer`, borrowed for the call; the kernel
            // checks `remote` and never writes to it.
            let read = unsafe { libc::process_vm_readv(self.pid, &local, 1, &remote, 1, 0) };
            match read {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read if read > 0 => done += read as usize,
                _ => return Err(io::Error::last_os_error()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_is_read_and_unmapped_memory_is_an_error() {
        let memory = ProcessMemory::new(std::process::id());
        let value: u64 = 0x1122_3344_5566_7788;
        let address = &raw const value as u64;
        assert_eq!(memory.read_u64(address).unwrap(), value);
        assert_eq!(memory.read_u32(address + 4).unwrap(), 0x1122_3344);
        assert!(memory.read_u64(8).is_err());
        assert!(memory.read_u64(u64::MAX - 3).is_err());
        assert!(ProcessMemory::new(u32::MAX).read_u64(address).is_err());
    }
}
