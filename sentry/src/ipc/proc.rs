//! System V objects in `/proc`: `sysvipc` with a line for each, and their limits.

use std::fmt::Write;
use std::sync::Arc;

use amber_abi::errno::Errno;

use crate::fs::Registration;
use crate::fs::proc::parameters::{Parameter, fixed, variable};
use crate::fs::proc::written;
use crate::fs::pseudo::{Entry, Query};
use crate::ipc::{Object, SegmentPages};

/// The contribution to `/proc` and `/proc/sys`.
pub(crate) static REGISTRATION: Registration =
    Registration { proc: &[Entry::directory("sysvipc", FILES)], parameters: PARAMETERS, ..Registration::EMPTY };

const FILES: &[Entry] =
    &[Entry::file("msg", 0o444, messages), Entry::file("sem", 0o444, semaphores), Entry::file("shm", 0o444, memory)];

/// A limit as a parameter of the same name.
macro_rules! limit {
    ($name:ident) => {
        variable(
            concat!("kernel/", stringify!($name)),
            |k| k.ipc.limits.$name.get().to_string(),
            |k, text| k.ipc.limits.$name.set(written(text)?),
        )
    };
}

const PARAMETERS: &[Parameter] = &[
    limit!(msgmax),
    limit!(msgmnb),
    limit!(msgmni),
    variable(
        "kernel/sem",
        |k| k.ipc.limits.of_semaphores().map(|limit| limit.get().to_string()).join("\t"),
        |k, text| {
            let words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            let values = words.map(written).collect::<Result<Vec<u64>, Errno>>()?;
            k.ipc.limits.of_semaphores().iter().zip(values).try_for_each(|(limit, value)| limit.set(value))
        },
    ),
    fixed("kernel/shm_rmid_forced", |_| "0".into()),
    limit!(shmall),
    limit!(shmmax),
    limit!(shmmni),
];

/// `/proc/sysvipc/shm`.
fn memory(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let mut text = String::from(
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      \
         dtime      ctime                   rss                  swap\n",
    );
    // Resident memory is read without the lock.
    let rows: Vec<(String, Arc<SegmentPages>)> = {
        let segments = query.kernel.ipc.memory.lock();
        let row = |id: i32, s: &crate::ipc::Segment| {
            let p = s.permissions();
            format!(
                "{:>10} {id:>10}  {:>4o} {:>21} {:>5} {:>5}  {:>5} {:>5} {:>5} {:>5} {:>5} {:>10} {:>10} {:>10}",
                p.key,
                p.mode,
                s.size,
                s.creator,
                s.last,
                s.attached,
                p.uid,
                p.gid,
                p.cuid,
                p.cgid,
                s.attached_at,
                s.detached_at,
                s.changed_at,
            )
        };
        segments.iter().map(|(id, segment)| (row(id, segment), segment.pages())).collect()
    };
    for (row, pages) in rows {
        let _ = writeln!(text, "{row} {:>21} {:>21}", pages.resident(), 0);
    }
    Ok(text.into_bytes())
}

/// `/proc/sysvipc/sem`.
fn semaphores(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let mut text =
        String::from("       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n");
    let state = query.kernel.ipc.semaphores.lock();
    for (id, set) in state.sets.iter() {
        let p = set.permissions();
        let _ = writeln!(
            text,
            "{:>10} {id:>10}  {:>4o} {:>10} {:>5} {:>5} {:>5} {:>5} {:>10} {:>10}",
            p.key,
            p.mode,
            set.semaphores.len(),
            p.uid,
            p.gid,
            p.cuid,
            p.cgid,
            set.operated,
            set.changed_at,
        );
    }
    Ok(text.into_bytes())
}

/// `/proc/sysvipc/msg`.
fn messages(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let mut text = String::from(
        "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      \
         rtime      ctime\n",
    );
    let queues = query.kernel.ipc.messages.lock();
    for (id, queue) in queues.iter() {
        let p = queue.permissions();
        let _ = writeln!(
            text,
            "{:>10} {id:>10}  {:>4o}  {:>10} {:>10} {:>5} {:>5} {:>5} {:>5} {:>5} {:>5} {:>10} {:>10} {:>10}",
            p.key,
            p.mode,
            queue.bytes,
            queue.count(),
            queue.sender,
            queue.receiver,
            p.uid,
            p.gid,
            p.cuid,
            p.cgid,
            queue.sent_at,
            queue.received_at,
            queue.changed_at,
        );
    }
    Ok(text.into_bytes())
}
