//! Conformance tests of the platform contract, which each platform runs.
//!
//! Guest code consists of a few hand-written instructions in a frame; the test takes the role of the sentry.

mod answers;
mod breakpoints;
mod calls;
mod code;
mod faults;
mod guest;
mod isolation;
mod processor;
mod spaces;
mod threads;

pub use answers::*;
pub use breakpoints::*;
pub use calls::*;
pub use code::{Code, *};
pub use faults::*;
pub use guest::{CODE, DATA, Guest, Machine, READ, READ_EXECUTE, READ_WRITE};
pub use isolation::*;
pub use processor::*;
pub use spaces::*;
pub use threads::*;

/// Writes the platform's log to standard error.
pub fn log_to_stderr() {
    struct Stderr;
    impl log::Log for Stderr {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            eprintln!("{}: {}", record.level(), record.args());
        }
        fn flush(&self) {}
    }
    // The second test finds it set.
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(log::LevelFilter::Warn);
    }
}

/// Makes a test of each conformance function. The expression makes a [`Machine`], or an `Option` of one, which is
/// `None` if the host lacks what the platform needs. The test then passes without running, so the expression should
/// print that.
#[macro_export]
macro_rules! conformance_tests {
    ($make:expr; $($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                $crate::log_to_stderr();
                if let Some(machine) = Option::<$crate::Machine>::from($make) {
                    $crate::$name(&machine);
                }
            }
        )*
    };
    ($make:expr) => {
        $crate::conformance_tests! { $make;
            system_calls_trap_with_their_registers,
            registers_come_through_unchanged,
            page_faults_tell_address_and_access,
            exceptions_become_signals,
            bad_registers_are_the_guests_own_fault,
            every_way_to_call_traps,
            vsyscalls_trap,
            the_platforms_own_pages_are_out_of_reach,
            changes_come_in_batches,
            mappings_without_number,
            released_frames_are_held_until_out_of_reach,
            a_guest_that_does_not_run_keeps_no_released_frames,
            a_fork_copies_mappings_and_shares_frames,
            a_fork_of_a_fork_outlives_its_parent,
            forks_part_when_either_changes,
            many_spaces_come_and_go,
            what_was_abandoned_serves_others,
            a_context_moves_between_spaces,
            threads_share_a_space,
            threads_come_and_go,
            a_context_that_rested_serves_again,
            a_context_that_never_ran_in_a_space_serves_there,
            an_interrupted_first_run_keeps_its_reservation,
            no_interruption_is_lost,
            interruptions_leave_no_trace,
            single_steps_stop_after_each_instruction,
            breakpoints_stop_where_they_are_set,
            watchpoints_tell_stores_from_loads,
            breakpoints_and_single_steps_go_together,
            breakpoints_belong_to_one_thread,
            breakpoints_put_off_do_no_harm,
            bad_breakpoints_are_refused,
            synchronizing_reaches_running_threads,
            changes_while_threads_fault,
            fpu_state_is_kept,
            fpu_state_moves_with_the_context,
            bad_fpu_state_is_refused,
            protection_keys_do_not_hinder_the_platform,
            protection_keys_make_faults_of_their_own,
            protection_keys_belong_to_one_thread,
            vector_state_is_nobody_elses,
            constant_results_are_given,
            threads_have_answers_of_their_own,
            the_kernel_half_is_out_of_reach,
            privileged_instructions_are_refused,
            ports_are_out_of_reach,
            flags_and_segments_stay_a_users,
            returns_to_nowhere_are_the_guests_own_fault,
            the_time_stamp_counter_is_the_hosts,
            many_calls_whatever_comes_between,
            calls_of_threads_that_come_and_go,
            calls_of_threads_that_wait_in_turn,
            threads_without_number,
        }
    };
}
