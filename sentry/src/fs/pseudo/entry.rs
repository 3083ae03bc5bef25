//! The elements of the tables of proc and sysfs.

use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::stat::FileType;
use amber_platform::PAGE_SIZE;

use crate::credentials::Credentials;
use crate::fs::Added;
use crate::fs::pseudo::{Begin, PseudoInode};
use crate::interruption::check_killed;
use crate::kernel::Kernel;
use crate::task::{Task, TaskContext, current};
use crate::vfs::{Caller, File, Path};

/// The object that an entry describes, if the entry alone does not determine it.
#[derive(Clone, Default)]
pub(crate) struct Subject {
    /// The task of `/proc/PID` or `/proc/PID/task/TID`.
    pub task: Option<Weak<Task>>,
    /// Whether it is that thread alone, not its process.
    pub is_thread: bool,
    /// The number of a descriptor, a CPU or the like.
    pub index: i32,
    /// The path of an object such as a parameter.
    pub path: Option<Arc<str>>,
}

impl Subject {
    /// Whether both are the same object.
    pub(crate) fn is(&self, other: &Subject) -> bool {
        let same_task = match (&self.task, &other.task) {
            (Some(a), Some(b)) => Weak::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        let same_place = self.index == other.index && self.path == other.path;
        same_task && self.is_thread == other.is_thread && same_place
    }

    /// The task.
    ///
    /// # Errors
    /// `ESRCH` if it has ended.
    pub(crate) fn task(&self) -> Result<Arc<Task>, Errno> {
        self.task.as_ref().and_then(Weak::upgrade).ok_or_else(|| Errno::ESRCH.here())
    }
}

/// The task that opens a file or follows a link.
#[derive(Clone)]
pub(crate) struct Reader {
    /// Its credentials.
    pub credentials: Arc<Credentials>,
    /// The task.
    pub task: Arc<Task>,
    /// Its root directory.
    pub root: Path,
}

impl Reader {
    /// The reader for the calling task.
    ///
    /// # Errors
    /// `ESRCH` if the caller is not a task.
    pub(crate) fn of(caller: &dyn Caller) -> Result<Self, Errno> {
        let task = TaskContext::of(caller)?.task().clone();
        Ok(Reader { credentials: caller.credentials(), task, root: caller.fs().root() })
    }
}

/// An access to an entry.
pub(crate) struct Query<'a> {
    /// The kernel.
    pub kernel: &'a Arc<Kernel>,
    /// The object of the entry.
    pub subject: &'a Subject,
    /// The opener of the file, as it was then. [`Query::caller`] is the task that reads or writes now.
    pub reader: &'a Reader,
}

impl Query<'_> {
    /// The task of the subject.
    ///
    /// # Errors
    /// `ESRCH` if it has ended.
    pub(crate) fn task(&self) -> Result<Arc<Task>, Errno> {
        self.subject.task()
    }

    /// The task that reads or writes now, to which the descriptor may have been passed, with its credentials. On a
    /// thread of the sentry it is the opener.
    pub(crate) fn caller(&self) -> (Arc<Task>, Arc<Credentials>) {
        match current() {
            Some(task) => {
                let credentials = task.credentials();
                (task, credentials)
            }
            None => (self.reader.task.clone(), self.reader.credentials.clone()),
        }
    }

    /// Applies `take` to the subject's task if the caller may inspect it. This is checked at each read, as the task may
    /// have gained privileges since the open. The task executes no other program in the meantime.
    ///
    /// # Errors
    /// `EACCES` if the caller may not; `ESRCH` if the task has ended.
    pub(crate) fn inspect<T>(&self, take: impl FnOnce(&Task) -> T) -> Result<T, Errno> {
        let (inspector, who) = self.caller();
        let task = self.task()?;
        task.inspect(&who, &inspector, || take(&task))
    }

    /// Called between lines of a text that is made at once: checks for a kill and for memory.
    ///
    /// # Errors
    /// `EINTR` if the reader was killed; `ENOMEM`.
    pub(crate) fn check_room(&self) -> Result<(), Errno> {
        check_killed()?;
        Ok(self.kernel.mm.frames.admit(PAGE_SIZE)?)
    }
}

/// Makes the content of a file.
pub(crate) type Text = fn(&Query<'_>) -> Result<Vec<u8>, Errno>;

/// Handles a write to a file.
pub(super) type Store = fn(&Query<'_>, &[u8]) -> Result<(), Errno>;

/// Opens a file with its own operations.
pub(super) type Opener = fn(&Arc<PseudoInode>, &Query<'_>) -> Result<Arc<dyn File>, Errno>;

/// The kind of an entry.
#[derive(Clone, Copy)]
pub(crate) enum What {
    /// A directory with these entries, those that subsystems add, and those of a listing.
    Directory(&'static [Entry], Option<Added>, Option<&'static dyn Listing>),
    /// A file, which is writable if it has a store function.
    File(Text, Option<Store>),
    /// A file whose length the guest controls.
    Long(Begin),
    /// A file with its own operations.
    Special(Opener, Option<Text>),
    /// A symbolic link with this target.
    Link(Text),
    /// A magic link: the place it leads to, and its text.
    Magic(fn(&Query<'_>) -> Result<Path, Errno>, Text),
}

/// An entry of a table.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    /// The name in its directory; empty if a listing determines it.
    pub name: &'static str,
    /// The permissions.
    pub permissions: u16,
    /// The kind.
    pub what: What,
    /// The first Linux release that has it; empty for all.
    pub since: &'static str,
    /// Whether opening, following or searching it requires permission to inspect the task (ptrace(2)).
    pub is_guarded: bool,
    /// Whether it is always accessible to its own process.
    pub is_open_to_self: bool,
}

impl Entry {
    const fn new(name: &'static str, permissions: u16, what: What) -> Self {
        Entry { name, permissions, what, since: "", is_guarded: false, is_open_to_self: false }
    }

    /// A directory with these entries.
    pub(crate) const fn directory(name: &'static str, entries: &'static [Entry]) -> Self {
        Self::new(name, 0o555, What::Directory(entries, None, None))
    }

    /// A directory with these entries and those of a listing.
    pub(crate) const fn listing(
        name: &'static str,
        permissions: u16,
        entries: &'static [Entry],
        more: &'static dyn Listing,
    ) -> Self {
        Self::new(name, permissions, What::Directory(entries, None, Some(more)))
    }

    /// A read-only file.
    pub(crate) const fn file(name: &'static str, permissions: u16, text: Text) -> Self {
        Self::new(name, permissions, What::File(text, None))
    }

    /// A read-only file whose length the guest controls.
    pub(crate) const fn long(name: &'static str, permissions: u16, begin: Begin) -> Self {
        Self::new(name, permissions, What::Long(begin))
    }

    /// A file that can be read and written.
    pub(crate) const fn writable(name: &'static str, permissions: u16, text: Text, store: Store) -> Self {
        Self::new(name, permissions, What::File(text, Some(store)))
    }

    /// A file with its own operations.
    pub(crate) const fn special(name: &'static str, permissions: u16, open: Opener) -> Self {
        Self::new(name, permissions, What::Special(open, None))
    }

    /// Sets the text of a file with its own operations for tools outside the sandbox.
    pub(crate) const fn shown_as(mut self, text: Text) -> Self {
        if let What::Special(open, _) = self.what {
            self.what = What::Special(open, Some(text));
        }
        self
    }

    /// A symbolic link.
    pub(crate) const fn link(name: &'static str, text: Text) -> Self {
        Self::new(name, 0o777, What::Link(text))
    }

    /// A magic link.
    pub(crate) const fn magic(name: &'static str, to: fn(&Query<'_>) -> Result<Path, Errno>, text: Text) -> Self {
        Self::new(name, 0o777, What::Magic(to, text)).guarded()
    }

    /// Adds the entries of subsystems to a directory.
    pub(crate) const fn extended(mut self, added: Added) -> Self {
        if let What::Directory(entries, _, listing) = self.what {
            self.what = What::Directory(entries, Some(added), listing);
        }
        self
    }

    /// Restricts the entry to tasks that may inspect its task.
    pub(crate) const fn guarded(mut self) -> Self {
        self.is_guarded = true;
        self
    }

    /// Makes the entry always accessible to its own process.
    pub(crate) const fn open_to_self(mut self) -> Self {
        self.is_open_to_self = true;
        self
    }

    /// Sets the first Linux release that has the entry.
    pub(crate) const fn since(mut self, release: &'static str) -> Self {
        self.since = release;
        self
    }

    /// The file type.
    pub(crate) fn kind(&self) -> FileType {
        match self.what {
            What::Directory(..) => FileType::Directory,
            What::File(..) | What::Long(_) | What::Special(..) => FileType::Regular,
            What::Link(_) | What::Magic(..) => FileType::Symlink,
        }
    }

    /// Whether the release that the guest sees has it.
    pub(crate) fn exists_in(&self, kernel: &Kernel) -> bool {
        self.since.is_empty() || self.since.parse().is_ok_and(|since| kernel.profile.release() >= since)
    }
}

/// An entry of a listing.
pub(crate) struct Listed {
    /// Its position, above 0, which is stable while the entry exists.
    pub cookie: u64,
    /// Its name.
    pub name: String,
    /// The entry of its table.
    pub entry: &'static Entry,
}

/// Entries of a directory that are in no table: processes, descriptors, CPUs.
pub(crate) trait Listing: Sync {
    /// Finds an entry.
    ///
    /// # Errors
    /// `ENOENT` if it does not exist.
    fn find(&self, kernel: &Arc<Kernel>, subject: &Subject, name: &[u8]) -> Result<(&'static Entry, Subject), Errno>;

    /// All entries by cookie.
    ///
    /// # Errors
    /// `ENOENT` or `ESRCH` if the subject no longer exists.
    fn list(&self, kernel: &Arc<Kernel>, subject: &Subject) -> Result<Vec<Listed>, Errno>;

    /// The number of entries that count as subdirectories in the link count.
    fn links(&self, _: &Arc<Kernel>, _: &Subject) -> u32 {
        0
    }
}

/// Parses a name that is a number in the kernel's format.
pub(crate) fn number(name: &[u8]) -> Result<i32, Errno> {
    let digits = std::str::from_utf8(name).ok().and_then(|text| text.parse::<i32>().ok());
    digits.filter(|n| *n >= 0 && n.to_string().as_bytes() == name).ok_or_else(|| Errno::ENOENT.here())
}
