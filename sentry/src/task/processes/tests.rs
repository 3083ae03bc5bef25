use std::collections::HashSet;

use amber_abi::task::WaitStatus;
use proptest::prelude::*;

use super::*;
use crate::task::Limits;

fn process(pid: i32, parent: i32, parent_thread: i32, pgid: i32, sid: i32) -> Process {
    Process {
        group: ThreadGroup::new(pid, Arc::default(), Arc::new(Limits::default())),
        parent,
        parent_thread,
        children: Children::default(),
        pgid,
        sid,
        terminal: None,
        exit_signal: 17,
        parent_program: 0,
        zombie: None,
    }
}

/// Compares the indexes with a search of all processes.
fn check(table: &ProcessTable) {
    let numbers: HashSet<i32> = table.processes().flat_map(|p| [p.group.pid(), p.pgid, p.sid]).collect();
    let sorted = |numbers: &mut dyn Iterator<Item = i32>| {
        let mut all: Vec<i32> = numbers.collect();
        all.sort_unstable();
        all
    };
    let scan =
        |test: &dyn Fn(&Process) -> bool| sorted(&mut table.processes().filter(|p| test(p)).map(|p| p.group.pid()));
    for &number in &numbers {
        assert_eq!(sorted(&mut table.members(number).map(|p| p.group.pid())), scan(&|p| p.pgid == number));
        assert_eq!(
            sorted(&mut table.living_members(number).map(|p| p.group.pid())),
            scan(&|p| p.pgid == number && p.zombie.is_none())
        );
        let session = table.sessions.get(&number).into_iter().flat_map(|session| session.members.iter().copied());
        assert_eq!(sorted(&mut session.into_iter()), scan(&|p| p.sid == number));
        let children = table.process(number).into_iter().flat_map(|p| p.children.iter());
        assert_eq!(sorted(&mut children.into_iter()), scan(&|p| p.parent == number && table.process(number).is_some()));
        let ended = table.process(number).into_iter().flat_map(|p| p.children.ended());
        let is_ended = |p: &Process| p.parent == number && p.zombie.is_some() && table.process(number).is_some();
        assert_eq!(sorted(&mut ended.into_iter()), scan(&is_ended));
        for thread in [number, number + 1000] {
            assert_eq!(sorted(&mut table.children_of_thread(thread)), scan(&|p| p.parent_thread == thread));
        }
    }
    assert!(table.sessions.values().all(|session| !session.members.is_empty()));
}

#[derive(Clone, Debug)]
enum Step {
    Fork(usize, bool),
    SetGroup(usize, usize),
    SetSession(usize),
    End(usize),
    Adopt(usize, usize),
    Renumber(usize),
    Remove(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let index = || 0..40usize;
    prop_oneof![
        4 => (index(), any::<bool>()).prop_map(|(parent, thread)| Step::Fork(parent, thread)),
        1 => (index(), index()).prop_map(|(process, group)| Step::SetGroup(process, group)),
        1 => index().prop_map(Step::SetSession),
        2 => index().prop_map(Step::End),
        1 => (index(), index()).prop_map(|(child, parent)| Step::Adopt(child, parent)),
        1 => index().prop_map(Step::Renumber),
        1 => index().prop_map(Step::Remove),
    ]
}

proptest! {
    #[test]
    fn what_is_kept_is_what_a_search_would_find(steps in prop::collection::vec(step(), 1..60)) {
        let mut table = ProcessTable::default();
        table.add_process(process(1, 0, 0, 1, 1));
        let mut next = 1;
        for step in steps {
            let pids: Vec<i32> = table.processes().map(|p| p.group.pid()).collect();
            let at = |index: usize| pids[index % pids.len()];
            match step {
                Step::Fork(parent, thread) => {
                    next += 1;
                    let parent = at(parent);
                    let (pgid, sid) = table.process(parent).map(|p| (p.pgid, p.sid)).unwrap();
                    table.add_process(process(next, parent, if thread { parent + 1000 } else { parent }, pgid, sid));
                }
                Step::SetGroup(process, group) => table.set_group(at(process), at(group)),
                Step::SetSession(process) => {
                    let pid = at(process);
                    if table.members(pid).next().is_none() && !table.sessions.contains_key(&pid) {
                        table.start_session(pid);
                    }
                }
                Step::End(process) => table.set_zombie(at(process), WaitStatus::Exited(0)),
                Step::Adopt(child, parent) => table.adopt(at(child), at(parent), at(parent)),
                Step::Renumber(parent) => table.renumber_parent_thread(at(parent) + 1000, at(parent)),
                // Children are moved to another parent first.
                Step::Remove(process) => {
                    let pid = at(process);
                    if pid != 1 && table.process(pid).is_some_and(|p| p.children.iter().next().is_none()) {
                        table.remove_process(pid);
                    }
                }
            }
            check(&table);
        }
    }
}

#[test]
fn a_group_is_orphaned_with_the_last_parent_outside_it() {
    let mut table = ProcessTable::default();
    table.add_process(process(1, 0, 0, 1, 1));
    table.add_process(process(2, 1, 1, 2, 1));
    table.add_process(process(3, 2, 2, 2, 1));
    table.add_process(process(4, 1, 1, 2, 1));
    let is_anchor = |table: &ProcessTable, pid| table.is_anchor(table.process(pid).unwrap());
    assert!(is_anchor(&table, 2) && !is_anchor(&table, 3) && is_anchor(&table, 4));
    table.set_zombie(2, WaitStatus::Exited(0));
    assert!(!table.is_orphaned(2));
    table.set_zombie(4, WaitStatus::Exited(0));
    assert!(table.is_orphaned(2));
}
