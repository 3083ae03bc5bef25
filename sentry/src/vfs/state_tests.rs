//! Two kernels in one process do not see each other's files.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use amber_abi::errno::Errno;
use amber_abi::open::{OpenFlags, RenameFlags};
use amber_abi::stat::FileType;
use amber_platform::{GuestMemory, PAGE_SIZE};

use super::*;
use crate::credentials::Credentials;
use crate::fs::tmpfs::{TmpFs, TmpfsOptions};
use crate::mm::{PageCache, PageSource};
use crate::vfs::locks::{Owner, Record};
use crate::vfs::namei::{self, Creation};
use crate::vfs::notify::{self, Watcher};
use crate::vfs::propagation::{self, Spreading};
use crate::vfs::text_busy::FileUse;
use crate::vfs::walk::Scope;
use crate::vfs::{FdTable, FileDescription, Inode, Mount, MountNamespace, MountOptions, Path, SuperBlock, mounting};

/// The files of a kernel: a root with the file `f` and the directory `d`.
struct World {
    vfs: Arc<Vfs>,
    memory: Arc<GuestMemory>,
    namespace: Arc<MountNamespace>,
    credentials: Arc<Credentials>,
}

impl World {
    fn new() -> World {
        let (vfs, memory) = (Vfs::new(), GuestMemory::new(1 << 24).expect("a memfd"));
        let root = Mount::internal(&vfs, TmpFs::new(&vfs, memory.clone(), TmpfsOptions::default()));
        let namespace = MountNamespace::new(memory.clone(), root);
        let world = World { vfs, memory, namespace, credentials: Arc::new(Credentials::root()) };
        world.create(b"/f", FileType::Regular);
        world.create(b"/d", FileType::Directory);
        world
    }

    fn scope(&self) -> Scope<'_> {
        Scope::kernel(&self.credentials, self.namespace.root().root_path())
    }

    fn create(&self, path: &[u8], kind: FileType) {
        let target = self.scope().parent(path).expect("its directory is there");
        namei::create(&self.credentials, &target, &Creation::plain(kind, 0o755, 0)).expect("nothing is there yet");
    }

    fn path(&self, path: &[u8]) -> Path {
        self.scope().resolve(path, true).expect("it was made")
    }

    fn inode(&self, path: &[u8]) -> Arc<dyn Inode> {
        self.path(path).inode().expect("it was made").clone()
    }

    fn open(&self, path: &[u8]) -> Arc<FileDescription> {
        let file = self.inode(path).open(OpenFlags::O_RDWR).expect("a file in memory");
        FileDescription::new(&self.vfs, file, Some(self.path(path)), OpenFlags::O_RDWR)
    }
}

#[test]
fn each_kernel_numbers_from_the_start() {
    let numbers = |world: &World| {
        let (file, place) = (world.open(b"/f"), world.path(b"/f"));
        let table = FdTable::new(&world.vfs, &world.memory);
        let device = world.vfs.anonymous_device();
        let of_file = (file.id(), place.dentry.id(), world.inode(b"/f").identity());
        (world.namespace.id, place.mount.id, place.mount.unique_id, table.id(), device, of_file)
    };
    let (one, other) = (World::new(), World::new());
    assert_eq!(numbers(&one), numbers(&other));
}

#[test]
fn open_files_are_counted_for_their_kernel() {
    let (one, other) = (World::new(), World::new());
    let files: Vec<_> = (0..5).map(|_| one.open(b"/f")).collect();
    assert_eq!((one.vfs.open_files.count(), other.vfs.open_files.count()), (5, 0));
    drop(files);
    assert_eq!(one.vfs.open_files.count(), 0);
}

#[test]
fn a_lock_holds_up_nobody_in_another_kernel() {
    let (one, other) = (World::new(), World::new());
    let (file, same) = (one.inode(b"/f"), other.inode(b"/f"));
    assert_eq!(file.identity(), same.identity(), "what tells files apart is the kernel alone");
    let record = |owner| Record { owner: Owner::Process(owner), pid: 1, exclusive: true, start: 0, last: 9 };
    one.vfs.locks.set_record(&*file, record(1)).unwrap();
    one.vfs.locks.set_whole(&*file, 1, 1, true).unwrap();
    assert_eq!(one.vfs.locks.set_record(&*file, record(2)), Err(Errno::EAGAIN));
    assert!(!other.vfs.locks.any() && other.vfs.locks.listed(None, None, 1).is_empty());
    other.vfs.locks.set_record(&*same, record(2)).unwrap();
    other.vfs.locks.set_whole(&*same, 2, 1, true).unwrap();
    other.vfs.locks.release_description(&*same, 1);
    assert_eq!(one.vfs.locks.listed(Some(&*file), None, 9).len(), 2);
}

#[test]
fn a_program_of_one_kernel_is_written_in_another() {
    let (one, other) = (World::new(), World::new());
    let (program, same) = (one.inode(b"/f"), other.inode(b"/f"));
    let executed = FileUse::begin(&one.vfs, &*program, false).unwrap();
    assert!(FileUse::begin(&one.vfs, &*program, true).is_err_and(|errno| errno == Errno::ETXTBSY));
    assert_eq!(other.vfs.file_uses.is_executed(&*same), Ok(false));
    assert!(FileUse::begin(&other.vfs, &*same, true).is_ok());
    drop(executed);
    assert!(FileUse::begin(&one.vfs, &*program, true).is_ok());
}

#[derive(Default)]
struct Counter(AtomicUsize);

impl Watcher for Counter {
    fn event(&self, _mask: u32, _cookie: u32, _name: Option<&[u8]>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_watch_sees_its_own_kernel() {
    let (one, other) = (World::new(), World::new());
    let counter = Arc::new(Counter::default());
    let watcher: Arc<dyn Watcher> = counter.clone();
    let watch = notify::watch(&one.vfs, &one.inode(b"/d"), Arc::downgrade(&watcher)).unwrap();
    other.create(b"/d/new", FileType::Regular);
    assert_eq!(counter.0.load(Ordering::Relaxed), 0);
    one.create(b"/d/new", FileType::Regular);
    assert_eq!(counter.0.load(Ordering::Relaxed), 1);
    drop(watch);
}

#[test]
fn mounts_spread_within_their_kernel() {
    let worlds = [World::new(), World::new()];
    let peers = worlds.each_ref().map(|world| {
        let root = world.namespace.root();
        propagation::set_spreading(&world.namespace, &root, Spreading::Shared, false);
        world.namespace.duplicate().expect("memory for a mount").0
    });
    let groups: HashSet<_> = worlds.iter().map(|world| world.namespace.root().propagation().group).collect();
    assert_eq!(groups.len(), 1, "peer groups have the same number in both");
    let [one, other] = &worlds;
    let before = other.namespace.generation();
    let fs = TmpFs::new(&one.vfs, one.memory.clone(), TmpfsOptions::default());
    let super_block = SuperBlock::new(&one.vfs, fs, false);
    mounting::mount(&one.namespace, super_block, b"x".to_vec(), MountOptions::empty(), &one.path(b"/d")).unwrap();
    let counts = [one.namespace.count(), peers[0].count(), other.namespace.count(), peers[1].count()];
    assert_eq!(counts, [2, 2, 1, 1]);
    assert_eq!(other.namespace.generation(), before);
}

#[test]
fn a_kernel_waits_for_no_lock_of_another() {
    let (one, other) = (World::new(), World::new());
    let _rename = one.vfs.renames.lock();
    std::thread::scope(|scope| {
        let work = || {
            let target = |path: &[u8]| other.scope().parent(path).expect("the root is there");
            namei::rename(&other.credentials, &target(b"/f"), &target(b"/g"), RenameFlags::empty())
        };
        assert_eq!(scope.spawn(work).join().expect("no panic"), Ok(()));
    });
}

#[test]
fn names_are_forgotten_by_their_kernel() {
    let worlds = [World::new(), World::new()];
    let known = |world: &World| world.namespace.root().root.cached(b"f").is_some();
    assert!(worlds.iter().all(known), "names that nobody uses are kept");
    worlds[0].vfs.names.forget_unused();
    assert_eq!(worlds.each_ref().map(known), [false, true]);
}

struct Zeros;

impl PageSource for Zeros {
    fn read(&self, _: &GuestMemory, _: u64, _: u64, len: u64) -> Result<u64, Errno> {
        Ok(len)
    }

    fn write(&self, _: &GuestMemory, _: u64, _: u64, _: u64) -> Result<(), Errno> {
        Ok(())
    }
}

#[test]
fn cached_pages_are_given_up_by_their_kernel() {
    let worlds = [World::new(), World::new()];
    let cached = |world: &World| {
        let cache = PageCache::new(&world.vfs.page_caches, world.memory.clone(), Box::new(Zeros), PAGE_SIZE);
        cache.read(0, &mut [0]).unwrap();
        cache
    };
    let _caches = worlds.each_ref().map(cached);
    let held = |world: &World| world.vfs.page_caches.held();
    let each = held(&worlds[0]);
    assert!(each > 0 && each == held(&worlds[1]));
    assert_eq!(worlds[0].vfs.page_caches.evict_all(), each);
    assert_eq!(worlds.each_ref().map(held), [0, each]);
}

#[test]
fn nothing_of_a_kernel_outlives_its_mounts() {
    let world = World::new();
    let vfs = Arc::downgrade(&world.vfs);
    let file = world.open(b"/f");
    drop(world);
    assert!(vfs.upgrade().is_some());
    drop(file);
    assert!(vfs.upgrade().is_none());
}
