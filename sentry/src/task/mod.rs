//! Tasks, thread groups and their table: making, executing, ending, waiting.

mod caller;
mod clone;
mod context;
mod cpu_limit;
mod current;
pub(crate) mod exec;
mod exit;
mod group;
mod identity;
mod inspection;
mod instruction;
mod limits;
pub(crate) mod pidfd;
mod processes;
mod run;
pub(crate) mod sandbox_exit;
mod schedule;
mod seccomp;
pub(crate) mod seccomp_profile;
mod session;
mod settings;
pub(crate) mod spawn;
#[expect(clippy::module_inception, reason = "the module is named for the one type it holds")]
mod task;
mod thread_pool;
mod usage;
pub(crate) mod wait;

pub(crate) use clone::{CloneRequest, VforkGate};
pub(crate) use clone::{Start, check_namespaces, clone_task};
pub(crate) use context::TaskContext;
pub(crate) use context::{AltStack, ThreadState};
pub(crate) use current::current;
pub(crate) use group::ThreadGroup;
pub(crate) use group::{GroupState, GroupStop, StopNotice};
pub(crate) use limits::Limits;
pub(crate) use processes::{Children, Process, ProcessTable};
pub(crate) use sandbox_exit::SandboxExit;
pub(crate) use schedule::{CpuSet, Schedule};
pub use seccomp::Filter;
pub(crate) use seccomp::Seccomp;
pub(crate) use session::ControllingTerminal;
pub(crate) use settings::Settings;
pub(crate) use task::{NewTask, Task};
pub(crate) use thread_pool::STACK_COST;
pub(crate) use thread_pool::ThreadPool;
pub(crate) use usage::{Activity, TaskStats, Usage};
