//! Frames of this very program, of the vDSO and of the kernel.

use super::*;

#[inline(never)]
fn a_function_with_a_name() -> u64 {
    // Not its first instruction, so that the line is one of the body's.
    a_function_with_a_name as *const () as u64 + 1
}

#[test]
fn own_code_has_name_position_and_owner() {
    let modules = ModuleMap::read(std::process::id()).unwrap();
    let mut symbolizer = Symbolizer::new();
    let address = a_function_with_a_name();
    // The unknown addresses before and after do not lose the one between.
    let frames = symbolizer.frames(&modules, &[8, address, u64::MAX]);
    let [below, own, above] = frames.as_slice() else {
        panic!("{frames:#?}");
    };
    assert_eq!(below.function, "0x8");
    assert_eq!(above.origin, Origin::Unknown);
    assert!(
        own.function
            .ends_with("symbolize::tests::a_function_with_a_name"),
        "{own:?}"
    );
    assert_eq!(own.origin, Origin::User);
    let location = own.location.as_ref().unwrap();
    assert!(
        location.file.ends_with("src/stacks/symbolize/tests.rs"),
        "{location}"
    );
    assert!(location.line > 0);
    assert_eq!(own.address, None);
    let again = symbolizer.frames(&modules, &[address]);
    assert!(Arc::ptr_eq(&again[0], own), "not remembered");
}

#[test]
fn an_address_without_symbol_names_its_module() {
    let modules = ModuleMap::read(std::process::id()).unwrap();
    let vdso = modules
        .modules()
        .iter()
        .find(|module| &*module.name == "[vdso]")
        .unwrap();
    // The vDSO's ELF header is no function.
    let frames = Symbolizer::new().frames(&modules, &[vdso.ranges[0].start]);
    assert_eq!(frames[0].function, "[vdso]+0x0 (outside known functions)");
    assert!(frames[0].is_outside_functions());
    let address = frames[0].address.as_ref().unwrap();
    assert_eq!(address.address, 0);
    assert_eq!(
        address.build_id.as_deref().map(str::to_owned),
        vdso.build_id.as_ref().map(ToString::to_string)
    );
    assert_eq!(frames[0].origin, Origin::Std);
}

#[test]
fn kernel_addresses_always_give_a_frame() {
    let frames = Symbolizer::new().kernel_frames(&[0xffff_ffff_8100_0000, 0xffff_ffff_8100_0010]);
    assert!(!frames.is_empty());
    assert!(frames.iter().all(|frame| frame.origin == Origin::Kernel));
}
