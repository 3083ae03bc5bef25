//! What the tables of proc and sysfs are made of.

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

/// What an entry tells of, where the entry alone does not say it.
#[derive(Clone, Default)]
pub struct Subject {
    /// The task of `/proc/PID` or `/proc/PID/task/TID`.
    pub task: Option<Weak<Task>>,
    /// It is about that thread alone, not about its process.
    pub is_thread: bool,
    /// A descriptor, a processor, or another number.
    pub index: i32,
    /// Something with a path, such as a parameter.
    pub path: Option<Arc<str>>,
}

impl Subject {
    /// Whether both are about the same thing.
    pub fn is(&self, other: &Subject) -> bool {
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
    /// `ESRCH` once it is gone.
    pub fn task(&self) -> Result<Arc<Task>, Errno> {
        self.task.as_ref().and_then(Weak::upgrade).ok_or_else(|| Errno::ESRCH.here())
    }
}

/// Who opened a file, or follows a link.
#[derive(Clone)]
pub struct Reader {
    /// As whom.
    pub credentials: Arc<Credentials>,
    /// The task.
    pub task: Arc<Task>,
    /// Where its paths start.
    pub root: Path,
}

impl Reader {
    /// The calling task.
    ///
    /// # Errors
    /// `ESRCH` if the caller is no task.
    pub fn of(caller: &dyn Caller) -> Result<Self, Errno> {
        let task = TaskContext::of(caller)?.task().clone();
        Ok(Reader { credentials: caller.credentials(), task, root: caller.fs().root() })
    }
}

/// A look at an entry.
pub struct Query<'a> {
    /// The kernel.
    pub kernel: &'a Arc<Kernel>,
    /// What the entry is about.
    pub subject: &'a Subject,
    /// Who opened the file, as it was then; who reads or writes it now says [`Query::caller`].
    pub reader: &'a Reader,
}

impl Query<'_> {
    /// The task it is about.
    ///
    /// # Errors
    /// `ESRCH` once it is gone.
    pub fn task(&self) -> Result<Arc<Task>, Errno> {
        self.subject.task()
    }

    /// Who reads or writes now, to whom a descriptor may have been passed, and as whom. On a thread of the sentry's own
    /// it is the one that opened the file.
    pub fn caller(&self) -> (Arc<Task>, Arc<Credentials>) {
        match current() {
            Some(task) => {
                let credentials = task.credentials();
                (task, credentials)
            }
            None => (self.reader.task.clone(), self.reader.credentials.clone()),
        }
    }

    /// What `take` takes of the task it is about, if the caller may inspect that: checked at each read, as the task may have
    /// gained privileges since the file was opened. The task executes no other program meanwhile.
    ///
    /// # Errors
    /// `EACCES` if not, `ESRCH` once the task is gone.
    pub fn inspect<T>(&self, take: impl FnOnce(&Task) -> T) -> Result<T, Errno> {
        let (inspector, who) = self.caller();
        let task = self.task()?;
        task.inspect(&who, &inspector, || take(&task))
    }

    /// Asked between two lines of a text that is made in one go: whether it is still wanted, and there is room for more.
    ///
    /// # Errors
    /// `EINTR` if the reader was killed, `ENOMEM`.
    pub fn check_room(&self) -> Result<(), Errno> {
        check_killed()?;
        Ok(self.kernel.mm.frames.admit(PAGE_SIZE)?)
    }
}

/// The content of a file, or its refusal.
pub type Text = fn(&Query<'_>) -> Result<Vec<u8>, Errno>;

/// Takes what is written to a file.
pub type Store = fn(&Query<'_>, &[u8]) -> Result<(), Errno>;

/// Opens a file with a behaviour of its own.
pub type Opener = fn(&Arc<PseudoInode>, &Query<'_>) -> Result<Arc<dyn File>, Errno>;

/// What an entry is.
#[derive(Clone, Copy)]
pub enum What {
    /// A directory with these entries, those that subsystems add, and those of the listing behind them.
    Directory(&'static [Entry], Option<Added>, Option<&'static dyn Listing>),
    /// A file; it takes what is written to it if it has a way to.
    File(Text, Option<Store>),
    /// A file that a guest can make long.
    Long(Begin),
    /// A file with a behaviour of its own.
    Special(Opener, Option<Text>),
    /// A symbolic link with this text.
    Link(Text),
    /// A magic link: where it leads, and its text.
    Magic(fn(&Query<'_>) -> Result<Path, Errno>, Text),
}

/// One line of a table.
#[derive(Clone, Copy)]
pub struct Entry {
    /// The name in its directory; empty for those whose listing gives the name.
    pub name: &'static str,
    /// The permissions.
    pub permissions: u16,
    /// What it is.
    pub what: What,
    /// The first release that has it; empty for all.
    pub since: &'static str,
    /// Only who may inspect the task (see ptrace(2)) can open, follow or search it.
    pub is_guarded: bool,
    /// The process it is about can always look into it.
    pub is_open_to_self: bool,
}

impl Entry {
    const fn new(name: &'static str, permissions: u16, what: What) -> Self {
        Entry { name, permissions, what, since: "", is_guarded: false, is_open_to_self: false }
    }

    /// A directory with these entries.
    pub const fn directory(name: &'static str, entries: &'static [Entry]) -> Self {
        Self::new(name, 0o555, What::Directory(entries, None, None))
    }

    /// A directory with these entries and those of a listing.
    pub const fn listing(
        name: &'static str,
        permissions: u16,
        entries: &'static [Entry],
        more: &'static dyn Listing,
    ) -> Self {
        Self::new(name, permissions, What::Directory(entries, None, Some(more)))
    }

    /// A file that can be read.
    pub const fn file(name: &'static str, permissions: u16, text: Text) -> Self {
        Self::new(name, permissions, What::File(text, None))
    }

    /// A file that can be read, and that a guest can make long.
    pub const fn long(name: &'static str, permissions: u16, begin: Begin) -> Self {
        Self::new(name, permissions, What::Long(begin))
    }

    /// A file that can be read and written.
    pub const fn writable(name: &'static str, permissions: u16, text: Text, store: Store) -> Self {
        Self::new(name, permissions, What::File(text, Some(store)))
    }

    /// A file with a behaviour of its own.
    pub const fn special(name: &'static str, permissions: u16, open: Opener) -> Self {
        Self::new(name, permissions, What::Special(open, None))
    }

    /// The same file of its own behaviour, of which this text is shown to those outside the sandbox.
    pub const fn shown_as(mut self, text: Text) -> Self {
        if let What::Special(open, _) = self.what {
            self.what = What::Special(open, Some(text));
        }
        self
    }

    /// A symbolic link.
    pub const fn link(name: &'static str, text: Text) -> Self {
        Self::new(name, 0o777, What::Link(text))
    }

    /// A magic link.
    pub const fn magic(name: &'static str, to: fn(&Query<'_>) -> Result<Path, Errno>, text: Text) -> Self {
        Self::new(name, 0o777, What::Magic(to, text)).guarded()
    }

    /// The same directory with the entries that subsystems add to it.
    pub const fn extended(mut self, added: Added) -> Self {
        if let What::Directory(entries, _, listing) = self.what {
            self.what = What::Directory(entries, Some(added), listing);
        }
        self
    }

    /// The same for those only who may inspect the task.
    pub const fn guarded(mut self) -> Self {
        self.is_guarded = true;
        self
    }

    /// The same, always open to the process it is about.
    pub const fn open_to_self(mut self) -> Self {
        self.is_open_to_self = true;
        self
    }

    /// The same from a release on.
    pub const fn since(mut self, release: &'static str) -> Self {
        self.since = release;
        self
    }

    /// What kind of file it makes.
    pub fn kind(&self) -> FileType {
        match self.what {
            What::Directory(..) => FileType::Directory,
            What::File(..) | What::Long(_) | What::Special(..) => FileType::Regular,
            What::Link(_) | What::Magic(..) => FileType::Symlink,
        }
    }

    /// Whether the release the guest sees has it.
    pub fn exists_in(&self, kernel: &Kernel) -> bool {
        self.since.is_empty() || self.since.parse().is_ok_and(|since| kernel.profile.release() >= since)
    }
}

/// One of the entries a listing finds.
pub struct Listed {
    /// Its place among the others, above 0, which stays while the entry is there.
    pub cookie: u64,
    /// Its name.
    pub name: String,
    /// What it is.
    pub entry: &'static Entry,
}

/// The entries of a directory that no table has: processes, descriptors, processors.
pub trait Listing: Sync {
    /// Finds an entry.
    ///
    /// # Errors
    /// `ENOENT` if there is none.
    fn find(&self, kernel: &Arc<Kernel>, subject: &Subject, name: &[u8]) -> Result<(&'static Entry, Subject), Errno>;

    /// All entries, by cookie.
    ///
    /// # Errors
    /// `ENOENT` or `ESRCH` if the subject is gone.
    fn list(&self, kernel: &Arc<Kernel>, subject: &Subject) -> Result<Vec<Listed>, Errno>;

    /// How many of them are directories that count as links of this one.
    fn links(&self, _: &Arc<Kernel>, _: &Subject) -> u32 {
        0
    }
}

/// A name that is a number as the kernel prints it.
pub fn number(name: &[u8]) -> Result<i32, Errno> {
    let digits = std::str::from_utf8(name).ok().and_then(|text| text.parse::<i32>().ok());
    digits.filter(|n| *n >= 0 && n.to_string().as_bytes() == name).ok_or_else(|| Errno::ENOENT.here())
}
