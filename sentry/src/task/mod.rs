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
pub mod pidfd;
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
pub mod wait;

pub use clone::{CloneRequest, VforkGate};
pub(crate) use clone::{Start, check_namespaces, clone_task};
pub use context::TaskContext;
pub(crate) use context::{AltStack, ThreadState};
pub use current::current;
pub(crate) use group::{GroupState, GroupStop, StopNotice};
pub use group::{GroupUsage, ThreadGroup};
pub use limits::Limits;
pub use processes::{Children, Process, ProcessTable, Session};
pub use sandbox_exit::SandboxExit;
pub use schedule::{CpuSet, Schedule};
pub use seccomp::{Filter, Seccomp};
pub use session::ControllingTerminal;
pub use settings::Settings;
pub use task::{NewTask, Task};
pub(crate) use thread_pool::STACK_COST;
pub use thread_pool::ThreadPool;
pub use usage::{Activity, TaskStats, Usage};
