//! What kernel stacks show, and which of their frames are hud's own.

use std::sync::Arc;

use super::symbolize::NAMELESS_KERNEL;
use crate::model::Frame;

/// Kernel functions of every context switch. Everything up to the last of them is the switch itself
/// and hud's hook in it, not what the thread waits in.
const SWITCH: [&str; 3] = ["schedule", "__schedule", "preempt_schedule_irq"];

/// Entry of an interrupt in kernel mode on aarch64, in older and newer kernels. Everything up to it is
/// hud's own sample. (The entry from user mode is found by its address. On x86-64 both are the same.)
const INTERRUPTS: [&str; 2] = ["el1_irq", "el1h_64_irq"];

/// Kernel functions that handle a page fault.
const PAGE_FAULTS: [&str; 5] = [
    "asm_exc_page_fault",
    "exc_page_fault",
    "do_user_addr_fault",
    "do_mem_abort",
    "do_page_fault",
];

/// Removes the frames of the context switch from the stack of a sleeping thread.
pub fn remove_switch(kernel: &mut Vec<Arc<Frame>>) {
    remove_through(kernel, &SWITCH);
}

/// Removes the frames of hud's sample from the stack of a running thread.
pub fn remove_interrupt(kernel: &mut Vec<Arc<Frame>>) {
    remove_through(kernel, &INTERRUPTS);
}

/// Whether a running thread's kernel stack is that of a page fault. Where the kernel's symbols cannot be
/// read, a thread in the kernel without a system call is taken to be in one.
pub fn shows_page_fault(kernel: &[Arc<Frame>], syscall: i32) -> bool {
    match kernel {
        [] => false,
        [nameless] if nameless.function == NAMELESS_KERNEL => syscall < 0,
        frames => frames
            .iter()
            .any(|frame| PAGE_FAULTS.contains(&frame.function.as_str())),
    }
}

/// Removes the innermost frames up to and including the last of these functions.
fn remove_through(kernel: &mut Vec<Arc<Frame>>, functions: &[&str]) {
    let last = kernel
        .iter()
        .rposition(|frame| functions.contains(&frame.function.as_str()));
    if let Some(at) = last {
        kernel.drain(..=at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Origin;

    fn frame(function: &str) -> Arc<Frame> {
        Arc::new(Frame::named(function, Origin::Kernel))
    }

    #[test]
    fn the_interrupt_of_the_sample_is_removed() {
        let mut kernel: Vec<_> = ["hrtimer_interrupt", "el1h_64_irq", "clear_page", "el0_da"]
            .iter()
            .map(|function| frame(function))
            .collect();
        let own = kernel[2..].to_vec();
        remove_interrupt(&mut kernel);
        assert_eq!(kernel, own);
        remove_interrupt(&mut kernel);
        assert_eq!(kernel, own);
    }

    #[test]
    fn a_kernel_stack_shows_a_page_fault_or_does_not() {
        let fault = [frame("clear_page_erms"), frame("asm_exc_page_fault")];
        assert!(shows_page_fault(&fault, -1));
        assert!(!shows_page_fault(&[frame("ksys_read")], 0));
        assert!(!shows_page_fault(&[], -1));
        // Without the kernel's symbols, no system call says as much.
        let nameless = [frame(NAMELESS_KERNEL)];
        assert!(shows_page_fault(&nameless, -1));
        assert!(!shows_page_fault(&nameless, 202));
    }
}
