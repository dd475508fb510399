/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Who ended a wait: which thread of the target, and what it was doing during the wait.
 *
 * That a thread is current at a wake-up proves nothing: an interrupt may issue the wake-up while an
 * unrelated thread is current. The current thread counts as the waker only if kernel objects
 * connect it to the wait: it wakes the waiters of the same futex, is the thread whose exit was
 * awaited, or uses the other end of the same pipe, socket or eventfd.
 */
#ifndef HUD_WAKER_BPF_H
#define HUD_WAKER_BPF_H

#include "facts.bpf.h"
#include "poll.bpf.h"
#include "stack.bpf.h"

/* Rate limits of last stacks: of one thread, and of all threads together. */
#define LAST_STACK_EVERY_NS (500 * 1000ull)
#define LAST_STACK_BURST 32
#define ALL_LAST_STACKS_EVERY_NS (50 * 1000ull)
#define ALL_LAST_STACKS_BURST 512

#define FUTEX_WAIT 0
#define FUTEX_WAKE 1
#define FUTEX_REQUEUE 3
#define FUTEX_CMP_REQUEUE 4
#define FUTEX_WAKE_OP 5
#define FUTEX_LOCK_PI 6
#define FUTEX_UNLOCK_PI 7
#define FUTEX_WAIT_BITSET 9
#define FUTEX_WAKE_BITSET 10
#define FUTEX_LOCK_PI2 13
#define FUTEX_COMMAND 127
/* Since Linux 6.7, with the same number on every architecture. */
#define SYSCALL_FUTEX_WAKE 454
#define SYSCALL_FUTEX_WAIT 455

#define FILE_TYPE 0170000
#define FILE_FIFO 0010000
#define FILE_SOCKET 0140000
#define FILE_REGULAR 0100000
#define FAMILY_UNIX 1
#define FAMILY_INET 2
#define FAMILY_INET6 10

u64 last_stacks_credit_clock;

static __always_inline bool waits_on_futex(struct user_regs *regs)
{
	u32 command = regs->args[1] & FUTEX_COMMAND;

	if (regs->syscall == SYSCALL_FUTEX_WAIT)
		return true;
	return regs->syscall == SYSCALL_FUTEX &&
	       (command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET || command == FUTEX_LOCK_PI ||
		command == FUTEX_LOCK_PI2);
}

static __always_inline bool wakes_futex(struct user_regs *regs)
{
	u32 command = regs->args[1] & FUTEX_COMMAND;

	if (regs->syscall == SYSCALL_FUTEX_WAKE)
		return true;
	return regs->syscall == SYSCALL_FUTEX &&
	       (command == FUTEX_WAKE || command == FUTEX_WAKE_BITSET || command == FUTEX_REQUEUE ||
		command == FUTEX_CMP_REQUEUE || command == FUTEX_WAKE_OP ||
		command == FUTEX_UNLOCK_PI);
}

static __always_inline bool same_address6(struct in6_addr *a, struct in6_addr *b)
{
	u64 left[2] = {}, right[2] = {};

	bpf_probe_read_kernel(left, sizeof(left), a);
	bpf_probe_read_kernel(right, sizeof(right), b);
	return left[0] == right[0] && left[1] == right[1];
}

/* Whether two sockets of this machine are connected to each other. */
static __always_inline bool are_peers(struct sock *a, struct sock *b)
{
	struct sock_common *left = &a->__sk_common, *right = &b->__sk_common;
	u16 family = BPF_CORE_READ(left, skc_family);

	if (BPF_CORE_READ(right, skc_family) != family)
		return false;
	if (family == FAMILY_UNIX)
		return BPF_CORE_READ((struct unix_sock *)a, peer) == b;
	if (BPF_CORE_READ(left, skc_num) != __builtin_bswap16(BPF_CORE_READ(right, skc_dport)) ||
	    BPF_CORE_READ(right, skc_num) != __builtin_bswap16(BPF_CORE_READ(left, skc_dport)))
		return false;
	if (family == FAMILY_INET)
		return BPF_CORE_READ(left, skc_daddr) == BPF_CORE_READ(right, skc_rcv_saddr) &&
		       BPF_CORE_READ(right, skc_daddr) == BPF_CORE_READ(left, skc_rcv_saddr);
	if (family != FAMILY_INET6)
		return false;
	return same_address6(&left->skc_v6_daddr, &right->skc_v6_rcv_saddr) &&
	       same_address6(&right->skc_v6_daddr, &left->skc_v6_rcv_saddr);
}

/* Whether two files are the ends of one pipe, or connected sockets. */
static __always_inline bool are_ends_of_one(struct file *a, struct file *b)
{
	struct inode *inode = BPF_CORE_READ(a, f_inode);
	u16 type = BPF_CORE_READ(inode, i_mode) & FILE_TYPE;
	struct socket *left, *right;

	if (type == FILE_SOCKET) {
		if ((BPF_CORE_READ(b, f_inode, i_mode) & FILE_TYPE) != FILE_SOCKET)
			return false;
		left = BPF_CORE_READ(a, private_data);
		right = BPF_CORE_READ(b, private_data);
		return are_peers(BPF_CORE_READ(left, sk), BPF_CORE_READ(right, sk));
	}
	return type == FILE_FIFO && inode == BPF_CORE_READ(b, f_inode);
}

/* Every read and write of an eventfd has this size. */
#define EVENTFD_BYTES 8

/*
 * Whether both threads read and write one eventfd. Its anonymous inode looks like a regular file on
 * some kernels; in_iowait excludes waits for a disk.
 */
static __always_inline bool share_eventfd(struct file *a, struct file *b, struct user_regs *waker,
					  struct task_struct *waiter, struct user_regs *waiter_regs)
{
	u16 mode = BPF_CORE_READ(a, f_inode, i_mode);

	return a == b && (mode == (FILE_REGULAR | 0600) || !(mode & FILE_TYPE)) &&
	       waker->args[2] == EVENTFD_BYTES &&
	       (is_poll(waiter_regs->syscall) || waiter_regs->args[2] == EVENTFD_BYTES) &&
	       !BPF_CORE_READ_BITFIELD_PROBED(waiter, in_iowait);
}

/*
 * How the current thread `waker` ends the wait of `waiter`, a thread of the same process; 0 if it
 * does not.
 */
static __noinline u32 release_kind(struct task_struct *waker, struct user_regs *waker_regs,
				   struct task_struct *waiter, struct user_regs *waiter_regs)
{
	struct files_struct *files;
	struct file *a, *b;

	if (waits_on_futex(waiter_regs)) {
		if (wakes_futex(waker_regs))
			return waker_regs->args[0] == waiter_regs->args[0] ? HUD_RELEASE_FUTEX : 0;
		if (waker_regs->syscall == SYSCALL_EXIT &&
		    (u64)BPF_CORE_READ(waker, clear_child_tid) == waiter_regs->args[0])
			return HUD_RELEASE_EXIT;
		return 0;
	}
	if (!is_transfer(waker_regs->syscall) ||
	    !(is_transfer(waiter_regs->syscall) || is_poll(waiter_regs->syscall)))
		return 0;
	files = BPF_CORE_READ(waiter, files);
	a = file_of(files, awaited_fd(waiter_regs));
	b = file_of(BPF_CORE_READ(waker, files),
		    waker_regs->args[0] > 0x7fffffff ? -1 : (s32)waker_regs->args[0]);
	if (!a || !b)
		return 0;
	if (are_ends_of_one(a, b) || share_eventfd(a, b, waker_regs, waiter, waiter_regs))
		return HUD_RELEASE_FILE;
	return 0;
}

/* Fills `out` from the current thread. */
static __noinline int capture_partial(struct hud_partial_stack *out, struct user_regs *regs,
				      u32 tid, u64 now)
{
	u64 base = regs->sp & ~(u64)(HUD_PAGE - 1);

	out->tid = tid;
	out->clock = now;
	out->ip = regs->ip;
	out->sp = regs->sp;
	out->fp = regs->fp;
	out->lr = regs->lr;
	out->arg0 = regs->args[0];
	out->syscall = regs->syscall;
	out->stack_base = base;
	out->stack_bytes = copy_user_stack(out->stack, base, HUD_PARTIAL_PAGES);
	return 0;
}

/* Records the current thread's stack as its last one, where wake-ups are tracked. */
static __noinline int record_last_stack(struct user_regs *regs, u32 tid, u64 switches,
					u32 observed_as, u64 now)
{
	u32 key = tid % LAST_STACKS;
	struct hud_partial_stack *last;

	if (!tracking_wakes)
		return 0;
	last = bpf_map_lookup_elem(&last_stacks, &key);
	if (!last)
		return 0;
	if (!take_credit(&last->credit_clock, now, LAST_STACK_EVERY_NS, LAST_STACK_BURST) ||
	    !take_credit(&last_stacks_credit_clock, now, ALL_LAST_STACKS_EVERY_NS,
			 ALL_LAST_STACKS_BURST)) {
		/* What is there is no longer its last stack. */
		if (last->tid == tid)
			last->tid = 0;
		return 0;
	}
	last->observed_as = observed_as;
	last->switches = switches;
	capture_partial(last, regs, tid, now);
	return 0;
}

/*
 * Whether `last` shows what the thread `tid` was doing during a wait that began at `since`: it was
 * taken during the wait, or as the thread fell asleep before the wait and woke during it.
 */
static __always_inline bool is_from_wait(struct hud_partial_stack *last, u32 tid, u64 switches,
					 u64 arrival, u64 since)
{
	if (last->tid != tid)
		return false;
	if (last->clock >= since)
		return true;
	return last->observed_as == HUD_OBSERVED_BLOCKED && last->switches == switches &&
	       arrival >= since;
}

/*
 * `waiter`, a worker asleep inside a poll, is being woken: reports that if the poll is slow, the
 * wait was long, and the current thread ended it.
 */
static __noinline int report_release(struct task_struct *waiter, struct hud_thread *thread)
{
	struct hud_release_event *event;
	struct user_regs regs, waiter_regs;
	struct hud_partial_stack *last;
	struct task_struct *waker;
	u64 now, wait, switches;
	u32 key, kind, tid = bpf_get_current_pid_tgid();

	now = clock_now();
	wait = saturating_sub(now, thread->observed_clock);
	if (saturating_sub(now, thread->poll.start_clock) < config.threshold_ns ||
	    wait < config.threshold_ns / LONG_WAIT_DIVISOR ||
	    wait <= thread->released_wait_ns * 5 / 4)
		return 0;
	if (has_task_pt_regs())
		waker = bpf_get_current_task_btf();
	else
		waker = (void *)bpf_get_current_task();
	read_user_regs(waker, &regs);
	read_user_regs(waiter, &waiter_regs);
	kind = release_kind(waker, &regs, waiter, &waiter_regs);
	if (!kind)
		return 0;
	thread->released_wait_ns = wait;
	count(work.releases);
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count(losses.ring_full);
		return 0;
	}
	fill_header(&event->header, HUD_EVENT_RELEASE, thread->tid, now);
	event->poll_sequence = thread->poll.sequence;
	event->wait_ns = wait;
	event->waited_for = waiter_regs.args[0];
	event->release_kind = kind;
	BPF_CORE_READ_STR_INTO(&event->comm, waker, comm);
	capture_partial(&event->at_wake, &regs, tid, now);
	event->has_during_wait = 0;
	key = tid % LAST_STACKS;
	last = bpf_map_lookup_elem(&last_stacks, &key);
	switches = BPF_CORE_READ(waker, nvcsw);
	if (last && is_from_wait(last, tid, switches, BPF_CORE_READ(waker, sched_info.last_arrival),
				 thread->observed_clock)) {
		bpf_probe_read_kernel(&event->during_wait, sizeof(event->during_wait), last);
		event->has_during_wait = event->during_wait.tid == tid;
	}
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}

#endif
