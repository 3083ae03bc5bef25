//! The walk compared with a simple model: trees of names, walked recursively.

use std::collections::BTreeMap;

use amber_platform::GuestMemory;
use proptest::prelude::*;

use super::*;
use crate::fs::tmpfs::{TmpFs, TmpfsOptions};
use crate::vfs::namei::{self, Creation};
use crate::vfs::{FileSystem, Mount, MountNamespace, MountOptions, SuperBlock, Vfs};

/// A node of the model.
#[derive(Clone, Debug)]
enum Node {
    File,
    Link(String),
    Directory(BTreeMap<String, Node>),
}

/// A place in the model: the names from the root.
type Place = Vec<String>;

struct Model {
    root: Node,
    links: usize,
}

impl Model {
    fn at(&self, place: &[String]) -> Option<&Node> {
        place.iter().try_fold(&self.root, |node, name| match node {
            Node::Directory(entries) => entries.get(name),
            _ => None,
        })
    }

    /// Walks a path from a place according to path_resolution(7).
    fn walk(&mut self, from: &Place, path: &str, follow: bool, beneath: bool) -> Result<Place, Errno> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        let mut at = from.clone();
        if path.starts_with('/') {
            if beneath {
                return Err(Errno::EXDEV);
            }
            at = Vec::new();
        }
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
        for (i, part) in parts.iter().enumerate() {
            if !matches!(self.at(&at), Some(Node::Directory(_))) {
                return Err(Errno::ENOTDIR);
            }
            match *part {
                "." => continue,
                ".." => {
                    if at.pop().is_none() && beneath {
                        return Err(Errno::EXDEV);
                    }
                    continue;
                }
                name => {
                    let mut to = at.clone();
                    to.push(name.to_owned());
                    let last = i + 1 == parts.len();
                    let follows = !last || follow || path.ends_with('/');
                    match self.at(&to).cloned() {
                        None => return Err(Errno::ENOENT),
                        Some(Node::Link(text)) if follows => {
                            self.links += 1;
                            if self.links > MAXSYMLINKS {
                                return Err(Errno::ELOOP);
                            }
                            at = self.walk(&at, &text, true, beneath)?;
                        }
                        Some(_) => at = to,
                    }
                }
            }
        }
        if path.ends_with('/') && !matches!(self.at(&at), Some(Node::Directory(_))) {
            return Err(Errno::ENOTDIR);
        }
        Ok(at)
    }
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned)
}

fn path() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec!["a", "b", "c", "a", "b", ".", "..", ""]);
    (any::<bool>(), prop::collection::vec(part, 1..6)).prop_map(|(absolute, parts)| {
        let text = parts.join("/");
        if absolute || text.is_empty() { format!("/{text}") } else { text }
    })
}

fn tree() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![Just(Node::File), path().prop_map(Node::Link)];
    let node = leaf
        .prop_recursive(4, 40, 3, |inner| prop::collection::btree_map(name(), inner, 0..4).prop_map(Node::Directory));
    prop::collection::btree_map(name(), node, 1..4).prop_map(Node::Directory)
}

fn build(scope: &Scope<'_>, at: &str, node: &Node) {
    let make = |creation: &Creation<'_>| {
        let target = scope.parent(at.as_bytes()).expect("its directory was made before");
        namei::create(scope.credentials, &target, creation).expect("nothing is there yet");
    };
    match node {
        Node::File => make(&Creation::plain(FileType::Regular, 0o644, 0)),
        Node::Link(text) => make(&Creation::link(text.as_bytes())),
        Node::Directory(entries) => {
            if !at.is_empty() {
                make(&Creation::plain(FileType::Directory, 0o755, 0));
            }
            for (name, entry) in entries {
                build(scope, &format!("{at}/{name}"), entry);
            }
        }
    }
}

fn namespace() -> std::sync::Arc<MountNamespace> {
    let vfs = Vfs::new();
    let memory = GuestMemory::new(1 << 20).expect("a memfd");
    let super_block = SuperBlock::new(&vfs, TmpFs::new(&vfs, memory.clone(), TmpfsOptions::default()), false);
    let root = super_block.root.clone();
    MountNamespace::new(memory, Mount::new(super_block, root, "none", MountOptions::empty()))
}

fn place_of(path: &Path, root: &Path) -> Place {
    let (text, _) = path.text(root);
    String::from_utf8_lossy(&text).split('/').filter(|p| !p.is_empty()).map(str::to_owned).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn walks_as_the_model_does(
        tree in tree(),
        paths in prop::collection::vec((path(), any::<bool>(), any::<bool>()), 1..12),
        start in path(),
    ) {
        let namespace = namespace();
        let credentials = Credentials::root();
        let root = namespace.root().root_path();
        let mut scope = Scope::kernel(&credentials, root.clone());
        build(&scope, "", &tree);
        let mut model = Model { root: tree, links: 0 };
        let mut cwd = Vec::new();
        if let Ok(place) = scope.resolve(start.as_bytes(), true) {
            cwd = place_of(&place, &root);
            scope.start = place;
        }
        for (path, follow, beneath) in paths {
            // Beneath a directory other than the root the model would need its own top; the root is enough.
            let beneath = beneath && cwd.is_empty();
            scope.resolve = if beneath { ResolveFlags::RESOLVE_BENEATH } else { ResolveFlags::empty() };
            model.links = 0;
            let expected = model.walk(&cwd, &path, follow, beneath);
            let got = scope.resolve(path.as_bytes(), follow).map(|place| place_of(&place, &root));
            prop_assert_eq!(got, expected, "{}", path);
        }
    }
}

#[test]
fn mounts_roots_and_long_names() {
    let namespace = namespace();
    let credentials = Credentials::root();
    let root = namespace.root().root_path();
    let scope = Scope::kernel(&credentials, root.clone());
    let make = |path: &[u8]| {
        let target = scope.parent(path).expect("its directory is there");
        namei::create(&credentials, &target, &Creation::plain(FileType::Directory, 0o755, 0)).expect("a directory")
    };
    make(b"/m");
    let place = make(b"/m/p");
    let memory = GuestMemory::new(1 << 20).expect("a memfd");
    let fs: std::sync::Arc<dyn FileSystem> = TmpFs::new(root.dentry.vfs(), memory, TmpfsOptions::default());
    let options = MountOptions::empty();
    crate::vfs::mounting::mount(
        &namespace,
        SuperBlock::new(root.dentry.vfs(), fs, false),
        b"x".to_vec(),
        options,
        &place,
    )
    .expect("the place is free");
    let mounted = scope.resolve(b"/m/p", true).expect("it is mounted");
    assert!(mounted.is_mount_root() && !mounted.is(&place));
    assert!(scope.resolve(b"/m/p/..", true).is_ok_and(|up| up.text(&root).0 == b"/m"));
    assert!(scope.resolve(b"/m/p/../../..", true).is_ok_and(|up| up.is(&root)));
    let crossing = Scope { resolve: ResolveFlags::RESOLVE_NO_XDEV, ..Scope::kernel(&credentials, root.clone()) };
    assert_eq!(crossing.resolve(b"/m/p", true).err(), Some(Errno::EXDEV));
    let jailed = Scope { root: mounted.clone(), start: mounted.clone(), ..Scope::kernel(&credentials, root) };
    assert!(jailed.resolve(b"../../..", true).is_ok_and(|up| up.is(&mounted)));
    assert_eq!(scope.resolve(&[b'x'; 256], true).err(), Some(Errno::ENAMETOOLONG));
    assert_eq!(scope.resolve(b"", true).err(), Some(Errno::ENOENT));
}

/// A tree with the directories `in/a/b` and `out`, and what makes further changes of it.
fn confined_tree() -> (std::sync::Arc<MountNamespace>, Path) {
    let namespace = namespace();
    let credentials = Credentials::root();
    let root = namespace.root().root_path();
    let scope = Scope::kernel(&credentials, root.clone());
    for path in [&b"/in"[..], b"/in/a", b"/in/a/b", b"/out"] {
        let target = scope.parent(path).expect("its directory is there");
        namei::create(&credentials, &target, &Creation::plain(FileType::Directory, 0o755, 0)).expect("a directory");
    }
    (namespace, root)
}

fn move_entry(scope: &Scope<'_>, from: &[u8], to: &[u8]) {
    let (from, to) = (scope.parent(from).expect("a place"), scope.parent(to).expect("a place"));
    namei::rename(scope.credentials, &from, &to, amber_abi::open::RenameFlags::empty()).expect("nothing forbids it");
}

#[test]
fn a_confined_walk_that_goes_up_notices_changes_of_the_tree() {
    let (namespace, root) = confined_tree();
    let credentials = Credentials::root();
    let kernel = Scope::kernel(&credentials, root.clone());
    let start = kernel.resolve(b"/in", true).expect("it is there");
    let mount_point = kernel.resolve(b"/out", true).expect("it is there");
    let changes: [&dyn Fn(); 3] =
        [&|| move_entry(&kernel, b"/in/a/b", b"/out/b"), &|| move_entry(&kernel, b"/out/b", b"/in/a/b"), &|| {
            crate::vfs::mounting::bind(&namespace, &start, &mount_point, false).expect("the place is free")
        }];
    for resolve in [ResolveFlags::RESOLVE_BENEATH, ResolveFlags::RESOLVE_IN_ROOT] {
        for change in &changes[..if resolve == ResolveFlags::RESOLVE_BENEATH { 2 } else { 3 }] {
            let scope = Scope { start: start.clone(), resolve, ..Scope::kernel(&credentials, root.clone()) };
            let mut up = Walk::new(&scope, b"a/../a/.").expect("a path");
            let mut down = Walk::new(&scope, b"a/.").expect("a path");
            change();
            assert_eq!(up.advance_to_last().err(), Some(Errno::EAGAIN));
            assert!(down.advance_to_last().is_ok(), "only the way up depends on the tree");
            assert!(scope.resolve(b"a/..", true).is_ok_and(|place| place.is(&start)));
        }
    }
    // Walks that may go anywhere do not ask.
    let mut free = Walk::new(&kernel, b"/in/a/..").expect("a path");
    move_entry(&kernel, b"/in/a/b", b"/in/a/c");
    assert!(free.advance_to_last().is_ok() && free.enter_last(true).is_ok());
}

#[test]
fn a_confined_walk_ends_beneath_its_root() {
    let (_namespace, root) = confined_tree();
    let credentials = Credentials::root();
    let kernel = Scope::kernel(&credentials, root.clone());
    let start = kernel.resolve(b"/in", true).expect("it is there");
    let scope = Scope { start, resolve: ResolveFlags::RESOLVE_IN_ROOT, ..Scope::kernel(&credentials, root.clone()) };
    let mut walk = Walk::new(&scope, b"a/b").expect("a path");
    walk.advance_to_last().expect("a is there");
    assert!(walk.enter_last(true).is_ok());
    move_entry(&kernel, b"/in/a/b", b"/out/b");
    assert_eq!(walk.finish().err(), Some(Errno::EXDEV));
}
