//! The path walk: path_resolution(7) with the restrictions of openat2(2).

use std::rc::Rc;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::open::{MAXSYMLINKS, NAME_MAX, ResolveFlags};
use amber_abi::stat::FileType;

use crate::credentials::Credentials;
use crate::vfs::access::{self, Access};
use crate::vfs::{Caller, Dentry, Inode, MountOptions, Path};

/// The starting points, credentials and restrictions of path walks.
pub(crate) struct Scope<'a> {
    /// The credentials for permission checks.
    pub credentials: &'a Credentials,
    /// The root directory, for absolute paths; `..` does not leave it.
    pub root: Path,
    /// The directory where relative paths start.
    pub start: Path,
    /// The caller, on which magic links depend; none during the set-up of the sandbox.
    pub caller: Option<&'a dyn Caller>,
    /// Restrictions of openat2(2).
    pub resolve: ResolveFlags,
}

/// The last component of a path, not yet looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    /// A name.
    Name(Rc<[u8]>),
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// The path has only slashes.
    Root,
}

/// The place where an entry is created, removed or moved: a directory and a last component.
pub(crate) struct Target {
    /// The directory, which exists and is searchable.
    pub directory: Path,
    /// The last component.
    pub last: Last,
    /// Whether slashes follow the component, so that it must be a directory or become one.
    pub trailing_slash: bool,
}

impl Target {
    /// The last component as a name.
    ///
    /// # Errors
    /// `otherwise` for `.`, `..` and `/`.
    #[track_caller]
    pub(crate) fn name(&self, otherwise: Errno) -> Result<&[u8], Errno> {
        match &self.last {
            Last::Name(name) => Ok(name),
            _ => Err(otherwise.here()),
        }
    }
}

impl<'a> Scope<'a> {
    /// A scope for paths given by the kernel itself: from the root, without a caller.
    pub(crate) fn kernel(credentials: &'a Credentials, root: Path) -> Self {
        Scope { credentials, start: root.clone(), root, caller: None, resolve: ResolveFlags::empty() }
    }

    /// Resolves a path. A symbolic link at its end is followed if `follow` is set or slashes come after it.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `EACCES`, `ELOOP`, `ENAMETOOLONG`, errors of the file system, and `EXDEV` and `EAGAIN` from
    /// restrictions of openat2(2).
    pub(crate) fn resolve(&self, path: &[u8], follow: bool) -> Result<Path, Errno> {
        self.walk_whole(path, follow)?.finish()
    }

    /// Resolves a path for umount2(2): to the topmost mount of the place, without marking it as used.
    pub(crate) fn resolve_mount(&self, path: &[u8], follow: bool) -> Result<Path, Errno> {
        Ok(self.walk_whole(path, follow)?.at.topmost())
    }

    fn walk_whole(&self, path: &[u8], follow: bool) -> Result<Walk<'_>, Errno> {
        let mut walk = Walk::new(self, path)?;
        loop {
            walk.advance_to_last()?;
            if walk.enter_last(follow)? {
                return Ok(walk);
            }
        }
    }

    /// Resolves all but the last component.
    pub(crate) fn parent(&self, path: &[u8]) -> Result<Target, Errno> {
        let mut walk = Walk::new(self, path)?;
        walk.advance_to_last()?;
        Ok(walk.target())
    }
}

struct Frame {
    text: Rc<[u8]>,
    at: usize,
}

impl Frame {
    /// The text that is left.
    fn rest(&self) -> &[u8] {
        self.text.get(self.at..).unwrap_or_default()
    }
}

/// A path walk in progress: a place, and the rest of the path and of the links being followed.
pub(crate) struct Walk<'a> {
    scope: &'a Scope<'a>,
    root: Path,
    /// The state of the tree at the start of a walk that may not leave its root.
    confined: Option<Option<u64>>,
    at: Path,
    /// Whether a lookup has just led here, so that owner and mode include changes made on the host.
    is_fresh: bool,
    frames: Vec<Frame>,
    links: usize,
    last: Last,
    trailing_slash: bool,
}

impl<'a> Walk<'a> {
    /// Starts a walk.
    ///
    /// # Errors
    /// `ENOENT` for the empty path; `EXDEV` for an absolute one with `RESOLVE_BENEATH`.
    pub(crate) fn new(scope: &'a Scope<'a>, path: &[u8]) -> Result<Self, Errno> {
        if path.is_empty() {
            return Err(Errno::ENOENT.here());
        }
        let confined = scope.resolve.intersects(ResolveFlags::RESOLVE_BENEATH | ResolveFlags::RESOLVE_IN_ROOT);
        let root = if confined { scope.start.clone() } else { scope.root.clone() };
        let mut walk = Walk {
            scope,
            at: scope.start.clone(),
            root,
            confined: confined.then(|| scope.root.dentry.vfs().tree_changes.state()),
            is_fresh: false,
            frames: Vec::new(),
            links: 0,
            last: Last::Root,
            trailing_slash: false,
        };
        walk.enter_text(Rc::from(path))?;
        Ok(walk)
    }

    fn forbids(&self, flag: ResolveFlags) -> bool {
        self.scope.resolve.contains(flag)
    }

    /// Continues with a text: the path, or the target of a link.
    fn enter_text(&mut self, text: Rc<[u8]>) -> Result<(), Errno> {
        if text.first() == Some(&b'/') {
            if self.forbids(ResolveFlags::RESOLVE_BENEATH) {
                return Err(Errno::EXDEV.here());
            }
            let root = self.root.clone();
            // A walk may start on any mount; only links to another mount are crossings.
            if !self.frames.is_empty() || self.links > 0 {
                self.check_crossing(&root)?;
            }
            (self.at, self.is_fresh) = (root, false);
        }
        self.frames.push(Frame { text, at: 0 });
        Ok(())
    }

    fn check_crossing(&self, to: &Path) -> Result<(), Errno> {
        if self.forbids(ResolveFlags::RESOLVE_NO_XDEV) && !Arc::ptr_eq(&self.at.mount, &to.mount) {
            return Err(Errno::EXDEV.here());
        }
        Ok(())
    }

    /// Takes the next component off the text.
    fn next(&mut self) -> Option<Last> {
        loop {
            let frame = self.frames.last_mut()?;
            let slashes = frame.rest().iter().take_while(|&&b| b == b'/').count();
            frame.at += slashes;
            let component = frame.rest().split(|&b| b == b'/').next().unwrap_or_default();
            let len = component.len();
            let next = match component {
                b"" => {
                    self.frames.pop();
                    continue;
                }
                b"." => Last::Dot,
                b".." => Last::DotDot,
                name => Last::Name(Rc::from(name)),
            };
            frame.at += len;
            return Some(next);
        }
    }

    /// Whether components are left, and whether any text is left.
    fn rest(&self) -> (bool, bool) {
        let mut slashes = false;
        for frame in &self.frames {
            let rest = frame.rest();
            if rest.iter().any(|&b| b != b'/') {
                return (true, true);
            }
            slashes |= !rest.is_empty();
        }
        (false, slashes)
    }

    /// Walks up to the last component, which [`last`](Self::last) then returns.
    pub(crate) fn advance_to_last(&mut self) -> Result<(), Errno> {
        loop {
            let Some(component) = self.next() else {
                // Only slashes are left: after links, the place reached is the last component.
                (self.last, self.trailing_slash) = (Last::Root, true);
                return Ok(());
            };
            self.check_searchable()?;
            if let Last::Name(name) = &component
                && name.len() > NAME_MAX
            {
                return Err(Errno::ENAMETOOLONG.here());
            }
            let (more, slashes) = self.rest();
            if !more {
                (self.last, self.trailing_slash) = (component, slashes);
                return Ok(());
            }
            self.step(component, true, false)?;
        }
    }

    /// The last component and its directory, after [`to_last`](Self::to_last).
    pub(crate) fn target(&self) -> Target {
        Target { directory: self.at.clone(), last: self.last.clone(), trailing_slash: self.trailing_slash }
    }

    /// The last component.
    pub(crate) fn last(&self) -> &Last {
        &self.last
    }

    /// Whether slashes follow the last component.
    pub(crate) fn has_trailing_slash(&self) -> bool {
        self.trailing_slash
    }

    /// The directory of the last component.
    pub(crate) fn directory(&self) -> &Path {
        &self.at
    }

    /// Looks up and enters the last component. Returns false if it is a link to follow; the caller then continues with
    /// [`to_last`](Self::to_last) in its target.
    pub(crate) fn enter_last(&mut self, follow: bool) -> Result<bool, Errno> {
        let component = std::mem::replace(&mut self.last, Last::Root);
        if self.step(component, follow || self.trailing_slash, true)? {
            return Ok(false);
        }
        if self.trailing_slash && !self.at.dentry.is_directory() {
            return Err(Errno::ENOTDIR.here());
        }
        Ok(true)
    }

    /// Like [`enter_last`](Self::enter_last), for an entry that the caller has already looked up or created.
    pub(crate) fn enter_found(&mut self, found: Arc<Dentry>, follow: bool) -> Result<bool, Errno> {
        if self.enter(found, follow || self.trailing_slash, true)? {
            return Ok(false);
        }
        if self.trailing_slash && !self.at.dentry.is_directory() {
            return Err(Errno::ENOTDIR.here());
        }
        Ok(true)
    }

    /// The place reached.
    ///
    /// # Errors
    /// `EXDEV` if a walk that may not leave its root was moved out of it.
    pub(crate) fn finish(self) -> Result<Path, Errno> {
        if self.confined.is_some() {
            let vfs = self.at.dentry.vfs();
            let _still = vfs.renames.lock_killable()?;
            if !self.at.is_under(&self.root) {
                return Err(Errno::EXDEV.here());
            }
        }
        if !self.is_fresh {
            self.at.inode()?.refresh()?;
        }
        self.at.mount.note_use();
        Ok(self.at)
    }

    fn check_searchable(&self) -> Result<(), Errno> {
        let inode = self.at.inode()?;
        if inode.kind() != FileType::Directory {
            return Err(Errno::ENOTDIR.here());
        }
        let check = if self.is_fresh { access::check } else { access::check_now };
        match check(self.scope.credentials, &**inode, Access::EXECUTE) {
            Err(_) if self.scope.caller.is_some_and(|caller| inode.permits(caller)) => Ok(()),
            Ok(()) if self.scope.caller.is_some_and(|caller| inode.forbids(caller)) => Err(Errno::EACCES.here()),
            answer => answer,
        }
    }

    /// Enters one component. Returns true if it was a link, whose target is walked next.
    fn step(&mut self, component: Last, follow: bool, trailing: bool) -> Result<bool, Errno> {
        match component {
            Last::Root | Last::Dot => Ok(false),
            Last::DotDot => self.up().map(|()| false),
            Last::Name(name) => {
                let found = self.look_up(&name)?;
                self.enter(found, follow, trailing)
            }
        }
    }

    /// Looks up a name in the place reached; the result may be negative.
    pub(crate) fn look_up(&self, name: &[u8]) -> Result<Arc<Dentry>, Errno> {
        if self.forbids(ResolveFlags::RESOLVE_CACHED) {
            return self.at.dentry.cached(name).ok_or_else(|| Errno::EAGAIN.here());
        }
        self.at.dentry.lookup(name)
    }

    fn up(&mut self) -> Result<(), Errno> {
        let mut to = self.at.clone();
        loop {
            if to.is(&self.root) {
                if self.forbids(ResolveFlags::RESOLVE_BENEATH) {
                    return Err(Errno::EXDEV.here());
                }
                break;
            }
            if to.is_mount_root() {
                match to.mount.place() {
                    Some(place) => to = place,
                    None => break,
                }
            } else {
                if let Some(parent) = to.dentry.parent() {
                    to.dentry = parent;
                }
                break;
            }
        }
        let to = to.topmost();
        self.check_crossing(&to)?;
        // A rename since the start of the walk may have moved the place out of the root, so that further `..` would not
        // meet the root.
        if let Some(state) = self.confined
            && !to.dentry.vfs().tree_changes.none_since(state)
        {
            return Err(Errno::EAGAIN.here());
        }
        (self.at, self.is_fresh) = (to, false);
        Ok(())
    }

    fn enter(&mut self, found: Arc<Dentry>, follow: bool, trailing: bool) -> Result<bool, Errno> {
        let to = Path { mount: self.at.mount.clone(), dentry: found };
        let (to, is_fresh) = if to.dentry.is_mount_point() { (to.topmost(), false) } else { (to, true) };
        self.check_crossing(&to)?;
        let inode = to.inode()?.clone();
        if inode.kind() != FileType::Symlink || !follow {
            (self.at, self.is_fresh) = (to, is_fresh);
            return Ok(false);
        }
        self.links += 1;
        if self.links > MAXSYMLINKS
            || self.forbids(ResolveFlags::RESOLVE_NO_SYMLINKS)
            || to.mount.options().contains(MountOptions::NO_SYMLINK_FOLLOW)
        {
            return Err(Errno::ELOOP.here());
        }
        if trailing {
            self.check_protected(&inode)?;
        }
        self.follow(&to, &inode)
    }

    fn check_protected(&self, link: &Arc<dyn Inode>) -> Result<(), Errno> {
        if self.scope.caller.is_some_and(|caller| caller.kernel().tunables.protected_symlinks.get() == 0) {
            return Ok(());
        }
        let directory = self.at.inode()?;
        let directory = if self.is_fresh { directory.ownership()? } else { directory.settled_ownership()? };
        if access::may_follow_link(self.scope.credentials, directory, link.ownership()?) {
            Ok(())
        } else {
            Err(Errno::EACCES.here())
        }
    }

    /// Follows a link: to its target text, which is walked next, or, for a magic link (false), directly to its place.
    fn follow(&mut self, link: &Path, inode: &Arc<dyn Inode>) -> Result<bool, Errno> {
        if let Some(caller) = self.scope.caller
            && let Some(target) = inode.follow_magic_link(caller)
        {
            if self.forbids(ResolveFlags::RESOLVE_NO_MAGICLINKS) {
                return Err(Errno::ELOOP.here());
            }
            if self.scope.resolve.intersects(ResolveFlags::RESOLVE_BENEATH | ResolveFlags::RESOLVE_IN_ROOT) {
                return Err(Errno::EXDEV.here());
            }
            let target = target?;
            self.check_crossing(&target)?;
            (self.at, self.is_fresh) = (target, false);
            return Ok(false);
        }
        if self.forbids(ResolveFlags::RESOLVE_CACHED) && link.dentry.is_removed() {
            return Err(Errno::EAGAIN.here());
        }
        let text = match self.scope.caller {
            Some(caller) => inode.read_link_as(caller)?,
            None => inode.read_link()?,
        };
        if text.is_empty() {
            return Err(Errno::ENOENT.here());
        }
        self.enter_text(Rc::from(text)).map(|()| true)
    }
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
