use std::os::unix::net::UnixStream;

use super::*;
use amber_abi::open::OpenFlags;

use crate::fs::eventfd::EventFd;
use crate::users::{Counted, UserCharge, Users};

fn new() -> Arc<Epoll> {
    Epoll::new(&Vfs::new(), &GuestMemory::new(1 << 20).unwrap())
}

fn event() -> (Arc<EventFd>, Arc<FileDescription>) {
    let event = EventFd::new(&Vfs::new(), 0, 0, false);
    let description = FileDescription::new(&Vfs::new(), event.clone(), None, OpenFlags::O_RDWR);
    (event, description)
}

fn describe(epoll: &Arc<Epoll>) -> Arc<FileDescription> {
    FileDescription::new(&Vfs::new(), epoll.clone(), None, OpenFlags::O_RDWR)
}

fn signal(event: &EventFd) {
    assert_eq!(event.write_at(&1u64.to_ne_bytes(), 0), Ok(8));
}

fn drain(event: &EventFd) {
    assert_eq!(event.read_at(&mut [0; 8], 0), Ok(8));
}

fn take(epoll: &Epoll, most: usize) -> Vec<u64> {
    epoll.harvest(most).iter().map(|f| f.event.data).collect()
}

const IN: EpollEvents = EpollEvents::EPOLLIN;

fn charge() -> Option<UserCharge> {
    Some(Users::default().get(0).charge(Counted::EpollWatches))
}

#[test]
fn level_triggered_stays_until_it_is_served() {
    let epoll = new();
    let (event, description) = event();
    epoll.add(5, &description, IN, 7, charge).unwrap();
    assert_eq!(epoll.add(5, &description, IN, 7, charge), Err(Errno::EEXIST));
    assert!(take(&epoll, 8).is_empty());
    signal(&event);
    assert_eq!(take(&epoll, 8), [7]);
    assert_eq!(take(&epoll, 8), [7]);
    drain(&event);
    assert!(take(&epoll, 8).is_empty());
    epoll.remove(5, &description).unwrap();
    assert_eq!(epoll.remove(5, &description), Err(Errno::ENOENT));
}

#[test]
fn edge_triggered_tells_once_for_each_event() {
    let epoll = new();
    let (event, description) = event();
    epoll.add(5, &description, IN | EpollEvents::EPOLLET, 7, charge).unwrap();
    signal(&event);
    assert_eq!(take(&epoll, 8), [7]);
    assert!(take(&epoll, 8).is_empty());
    signal(&event);
    assert_eq!(take(&epoll, 8), [7]);
}

#[test]
fn one_shot_is_disabled_until_it_is_changed() {
    let epoll = new();
    let (event, description) = event();
    epoll.add(5, &description, IN | EpollEvents::EPOLLONESHOT, 7, charge).unwrap();
    signal(&event);
    assert_eq!(take(&epoll, 8), [7]);
    signal(&event);
    assert!(take(&epoll, 8).is_empty());
    epoll.modify(5, &description, IN | EpollEvents::EPOLLONESHOT, 8).unwrap();
    let found = epoll.harvest(8);
    epoll.put_back(&found);
    assert_eq!(take(&epoll, 8), [8]);
}

#[test]
fn the_ready_list_goes_round() {
    let epoll = new();
    let events: Vec<_> = (0..3).map(|_| event()).collect();
    for (i, (event, description)) in events.iter().enumerate() {
        epoll.add(i as i32, description, IN, i as u64, charge).unwrap();
        signal(event);
    }
    assert_eq!(take(&epoll, 2), [0, 1]);
    assert_eq!(take(&epoll, 2), [2, 0]);
    assert_eq!(take(&epoll, 8), [1, 2, 0]);
}

#[test]
fn a_closed_description_is_forgotten() {
    let epoll = new();
    let (event, description) = event();
    epoll.add(5, &description, IN, 7, charge).unwrap();
    signal(&event);
    drop(description);
    assert!(epoll.state.lock().entries.is_empty());
    assert!(take(&epoll, 8).is_empty());
}

#[test]
fn epolls_nest_to_a_depth_and_not_in_a_circle() {
    let chain: Vec<_> = (0..6).map(|_| new()).collect();
    let descriptions: Vec<_> = chain.iter().map(describe).collect();
    for i in 0..4 {
        chain[i].add(i as i32, &descriptions[i + 1], IN, 1, charge).unwrap();
    }
    assert_eq!(chain[4].add(4, &descriptions[5], IN, 1, charge), Err(Errno::ELOOP));
    assert_eq!(chain[2].add(4, &descriptions[0], IN, 1, charge), Err(Errno::ELOOP));
    assert_eq!(chain[2].add(4, &descriptions[2], IN, 1, charge), Err(Errno::EINVAL));
    let (event, description) = event();
    chain[4].add(9, &description, IN, 1, charge).unwrap();
    assert!(chain[0].poll().is_empty());
    signal(&event);
    assert_eq!(chain[0].poll(), READABLE);
    assert_eq!(take(&chain[0], 8), [1]);
    drain(&event);
    assert!(chain[0].poll().is_empty());
}

/// A file backed by a host descriptor.
struct OfHost {
    queue: WaitQueue,
    _other_end: UnixStream,
}

impl File for OfHost {
    fn inode(&self) -> Arc<dyn Inode> {
        Vfs::new().anonymous.inode()
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn poll(&self) -> PollEvents {
        PollEvents::empty()
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn of_host() -> (Arc<OfHost>, Arc<FileDescription>) {
    let (end, other) = UnixStream::pair().unwrap();
    let file = Arc::new(OfHost { queue: WaitQueue::of_host(Arc::new(end.into())), _other_end: other });
    (file.clone(), FileDescription::new(&Vfs::new(), file, None, OpenFlags::O_RDWR))
}

#[test]
fn what_the_host_keeps_is_charged() {
    let memory = GuestMemory::new(1 << 20).unwrap();
    let epoll = Epoll::new(&Vfs::new(), &memory);
    let (_event, other) = event();
    epoll.add(4, &other, IN, 0, charge).unwrap();
    assert_eq!(memory.kernel_usage().files, 0);
    let files: Vec<_> = (0..3).map(|_| of_host()).collect();
    for (fd, (_, description)) in (5..).zip(&files) {
        epoll.add(fd, description, IN, 0, charge).unwrap();
    }
    assert_eq!(memory.kernel_usage().files, HOST_SET_BYTES + 3 * HOST_ENTRY_BYTES);
    epoll.remove(5, &files[0].1).unwrap();
    assert_eq!(memory.kernel_usage().files, HOST_SET_BYTES + 2 * HOST_ENTRY_BYTES);
    drop(epoll);
    assert_eq!(memory.kernel_usage().files, 0);
}

#[test]
fn what_an_object_of_the_host_says_itself_is_heard() {
    let epoll = new();
    let (file, description) = of_host();
    epoll.add(5, &description, IN, 7, charge).unwrap();
    assert!(take(&epoll, 8).is_empty());
    assert!(!epoll.has_ready());
    file.queue.notify(PollEvents::POLLIN);
    assert!(epoll.has_ready());
}
