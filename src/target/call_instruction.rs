//! Call instructions of both processors, read backwards from the address that they return to.

use crate::arch::Machine;

/// The longest call instruction of all processors, bytes.
pub const LONGEST: usize = 7;

/// The first byte of x86-64's CALL rel32.
const CALL_REL32: u8 = 0xe8;

/// A call instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Calls the function at this address.
    Direct(u64),
    /// Calls the function whose address is stored at this address: an entry of the GOT.
    Through(u64),
    /// Calls a function whose address is in a register, or elsewhere in memory.
    Indirect,
}

/// The readings of these bytes as a call instruction that returns to `address`, which lies behind
/// them. Instructions of x86-64 have no fixed length, so bytes can be read in more than one way.
pub fn read(machine: Machine, bytes: &[u8; LONGEST], address: u64) -> [Option<Instruction>; 2] {
    match machine {
        Machine::X86_64 => x86_64(bytes, address),
        Machine::Aarch64 => [aarch64(bytes, address), None],
    }
}

/// The targets of all direct calls in code that begins at `address`. Where instructions have no fixed
/// length, some of them are none: the byte that begins a call stands in other instructions, too.
pub fn direct_targets(machine: Machine, code: &[u8], address: u64, found: &mut impl FnMut(u64)) {
    let target = |at: usize, length: usize| {
        let call = code.get(at..at + length)?;
        let mut bytes = [0; LONGEST];
        bytes[LONGEST - length..].copy_from_slice(call);
        let returns = address.wrapping_add((at + length) as u64);
        match read(machine, &bytes, returns) {
            [Some(Instruction::Direct(target)), _] => Some(target),
            _ => None,
        }
    };
    match machine {
        Machine::X86_64 => memchr::memchr_iter(CALL_REL32, code)
            .filter_map(|at| target(at, 5))
            .for_each(found),
        Machine::Aarch64 => (0..code.len())
            .step_by(4)
            .filter_map(|at| target(at, 4))
            .for_each(found),
    }
}

fn x86_64(bytes: &[u8; LONGEST], address: u64) -> [Option<Instruction>; 2] {
    let end = |length: usize| bytes.get(LONGEST - length..).unwrap_or_default();
    let relative = || {
        let displacement = end(4).first_chunk().copied().map(i32::from_le_bytes);
        address.wrapping_add_signed(displacement.unwrap_or_default().into())
    };
    let direct = (end(5).first() == Some(&CALL_REL32)).then(|| Instruction::Direct(relative()));
    // CALL r/m64: opcode FF with 2 in the middle field of the byte after it, which also tells how
    // many bytes follow.
    // The longest reading is the least likely to be there by chance.
    let indirect = (2..=LONGEST).rev().find_map(|length| {
        let &[0xff, operand, ref rest @ ..] = end(length) else {
            return None;
        };
        let (mode, register) = (operand >> 6, operand & 7);
        let scaled = usize::from(mode != 3 && register == 4);
        let displacement = match (mode, register, rest.first()) {
            (1, _, _) => 1,
            (2, _, _) | (0, 5, _) => 4,
            // No base register.
            (0, 4, Some(scale)) if scale & 7 == 5 => 4,
            _ => 0,
        };
        if operand >> 3 & 7 != 2 || rest.len() != scaled + displacement {
            return None;
        }
        Some(match (mode, register) {
            (0, 5) => Instruction::Through(relative()),
            _ => Instruction::Indirect,
        })
    });
    [direct, indirect]
}

fn aarch64(bytes: &[u8; LONGEST], address: u64) -> Option<Instruction> {
    let word = bytes.last_chunk().copied().map_or(0, u32::from_le_bytes);
    match word {
        // BL: 26 bits, in units of four bytes.
        _ if word >> 26 == 0b100101 => {
            let words = (word << 6).cast_signed() >> 6;
            let at = address.wrapping_sub(4);
            Some(Instruction::Direct(
                at.wrapping_add_signed(i64::from(words) * 4),
            ))
        }
        // BLR, and BLRAA, BLRAAZ, BLRAB, BLRABZ.
        _ if word & 0xffff_fc1f == 0xd63f_0000 || word & 0xfeff_f800 == 0xd63f_0800 => {
            Some(Instruction::Indirect)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes right before a return address.
    fn before(code: &[u8]) -> [u8; LONGEST] {
        // What stands before the instruction is any other: here NOPs.
        let mut bytes = [0x90; LONGEST];
        bytes[LONGEST - code.len()..].copy_from_slice(code);
        bytes
    }

    #[test]
    fn calls_of_x86_64_are_recognised() {
        let at = |code: &[u8]| x86_64(&before(code), 0x1000);
        use Instruction::*;
        assert_eq!(at(&[0xe8, 0x10, 0, 0, 0]), [Some(Direct(0x1010)), None]);
        assert_eq!(
            at(&[0xe8, 0xf0, 0xff, 0xff, 0xff]),
            [Some(Direct(0xff0)), None]
        );
        assert_eq!(
            at(&[0xff, 0x15, 0x20, 0, 0, 0]),
            [None, Some(Through(0x1020))]
        );
        for indirect in [
            &[0xff, 0xd0][..],                  // call rax
            &[0x41, 0xff, 0xd4],                // call r12
            &[0xff, 0x10],                      // call [rax]
            &[0xff, 0x50, 0x18],                // call [rax+0x18]
            &[0xff, 0x14, 0x24],                // call [rsp]
            &[0xff, 0x14, 0xc8],                // call [rax+rcx*8]
            &[0xff, 0x54, 0x24, 0x18],          // call [rsp+0x18]
            &[0xff, 0x90, 0x18, 1, 0, 0],       // call [rax+0x118]
            &[0xff, 0x94, 0x24, 0x18, 1, 0, 0], // call [rsp+0x118]
            &[0xff, 0x14, 0x25, 0x18, 1, 0, 0], // call [0x118]
        ] {
            assert_eq!(at(indirect), [None, Some(Indirect)], "{indirect:x?}");
        }
        for other in [
            &[0xff, 0xe0][..],   // jmp rax
            &[0xff, 0x50],       // cut short
            &[0xff, 0x15, 0, 0], // cut short
            &[0x0f, 0x05],       // syscall
            &[],
        ] {
            assert_eq!(at(other), [None, None], "{other:x?}");
        }
    }

    #[test]
    fn calls_of_aarch64_are_recognised() {
        let at = |word: u32| aarch64(&before(&word.to_le_bytes()), 0x1000);
        assert_eq!(at(0x9400_0004), Some(Instruction::Direct(0x100c)));
        assert_eq!(at(0x97ff_ffff), Some(Instruction::Direct(0xff8)));
        assert_eq!(at(0xd63f_0100), Some(Instruction::Indirect)); // blr x8
        assert_eq!(at(0xd73f_0901), Some(Instruction::Indirect)); // blraa x8, x1
        assert_eq!(at(0xd61f_0100), None); // br x8
        assert_eq!(at(0xd400_0001), None); // svc #0
        assert_eq!(at(0x1400_0004), None); // b
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in any::<[u8; LONGEST]>(), address in any::<u64>()) {
            for machine in [Machine::X86_64, Machine::Aarch64] {
                let _ = read(machine, &bytes, address);
            }
        }
    }
}
