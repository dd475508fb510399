//! Stacks that are incomplete, hostile or without unwind tables.

use super::*;
use proptest::prelude::*;
use std::cell::RefCell;

thread_local! {
    static OWN: RefCell<(Unwinder, ModuleMap)> = RefCell::new(own());
}

fn own() -> (Unwinder, ModuleMap) {
    let map = ModuleMap::read(std::process::id()).unwrap();
    let mut unwinder = Unwinder::new();
    unwinder.set_modules(&map);
    (unwinder, map)
}

#[test]
fn no_stack_gives_the_leaf_and_is_not_complete() {
    let (mut unwinder, _) = own();
    let here = own as *const () as u64;
    let registers = Registers {
        ip: here,
        sp: 0x7000_0000,
        ..Registers::default()
    };
    let stack = CapturedStack {
        registers,
        base: 0x7000_0000,
        bytes: &[],
    };
    let unwound = unwinder.unwind(&stack);
    assert_eq!(unwound.addresses, [here]);
    assert!(!unwound.complete);
}

#[test]
fn a_zero_frame_pointer_outside_all_modules_is_not_the_threads_start() {
    let (mut unwinder, _) = own();
    let registers = Registers {
        ip: 0x1234,
        sp: 0x7000_0000,
        ..Registers::default()
    };
    let stack = CapturedStack {
        registers,
        base: 0x7000_0000,
        bytes: &[0; 64],
    };
    assert!(!unwinder.unwind(&stack).complete);
}

proptest! {
    #[test]
    fn garbage_is_survived(
        offset in 0u64..(1 << 20),
        sp in prop_oneof![0x7000_0000u64..0x7000_0400, any::<u64>()],
        fp in prop_oneof![0x7000_0000u64..0x7000_0400, any::<u64>()],
        lr in any::<u64>(),
        words in proptest::collection::vec(
            prop_oneof![any::<u64>(), 0u64..(1 << 20), 0x7000_0000u64..0x7000_0400],
            0..200,
        ),
    ) {
        OWN.with_borrow_mut(|(unwinder, map)| {
            // Small words become addresses of real code, so that real unwind rules run.
            let start = map.main().unwrap().ranges[0].start;
            let code = |word: u64| if word < 1 << 20 { start + word } else { word };
            let bytes: Vec<u8> =
                words.iter().flat_map(|&word| code(word).to_ne_bytes()).collect();
            let registers = Registers { ip: start + offset, sp, fp, lr };
            let unwound = unwinder.unwind(&CapturedStack {
                registers,
                base: 0x7000_0000,
                bytes: &bytes,
            });
            assert!(unwound.addresses.len() <= MAX_FRAMES);
        });
    }
}
