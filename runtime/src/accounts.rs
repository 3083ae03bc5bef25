//! Users and groups by name, from the guest's `/etc/passwd` and `/etc/group`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::path::Path;

use amber_abi::stat::FileType;
use amber_host::file_systems::{Standing, standing};
use amber_host::fs::{look, open_root, stat};
use amber_sentry::config::UserSpec;
use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// A user found for `--user`.
#[derive(Debug, PartialEq, Eq)]
pub struct Account {
    /// The identity of the process.
    pub user: UserSpec,
    /// The home directory, if `/etc/passwd` has the user.
    pub home: Option<String>,
}

struct Passwd {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// Looks up `user[:group]`, each a name or a number, in the tree at `root`.
///
/// As with Docker, names take precedence over numbers. A number need not be listed and then has group 0. Supplementary
/// groups are used only if no group is given.
pub fn resolve(root: &Path, text: &str) -> Result<Account> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let users = read(root, "etc/passwd", passwd_line)?;
    let groups = read(root, "etc/group", group_line)?;
    let number = user.parse::<u32>().ok();
    let found =
        users.iter().find(|entry| entry.name == user).or_else(|| users.iter().find(|entry| Some(entry.uid) == number));
    let uid = match (found, number) {
        (Some(entry), _) => entry.uid,
        (None, Some(uid)) => uid,
        (None, None) => {
            bail!("--user {text}: no user `{user}` in the guest's /etc/passwd; name another or use a number")
        }
    };
    let mut spec = UserSpec { uid, gid: found.map_or(0, |entry| entry.gid), additional_gids: Vec::new() };
    match group {
        Some(group) => {
            let known = groups.iter().find(|entry| entry.name == group).map(|entry| entry.gid);
            spec.gid = known.or_else(|| group.parse().ok()).with_context(|| {
                format!("--user {text}: no group `{group}` in the guest's /etc/group; name another or use a number")
            })?;
        }
        None => {
            if let Some(user) = found {
                let member_of = groups.iter().filter(|group| group.members.contains(&user.name));
                spec.additional_gids = member_of.map(|group| group.gid).collect();
            }
        }
    }
    Ok(Account { user: spec, home: found.map(|entry| entry.home.clone()).filter(|home| !home.is_empty()) })
}

/// The name of a user in the tree at `root`.
pub fn name_of(root: &Path, uid: u32) -> Option<String> {
    let known = read(root, "etc/passwd", passwd_line).ok()?;
    known.into_iter().find(|entry| entry.uid == uid).map(|entry| entry.name)
}

/// The largest file that is read, a thousand times the usual size.
const LARGEST: u64 = 16 << 20;

/// Opens a regular file below `root`; `None` if there is none. Links are followed as the guest would follow them, never
/// out of `root`. The guest may have put anything there: a device, a fifo, a mount of `/proc`.
fn open(root: &Path, name: &str) -> Result<Option<File>> {
    let root = open_root(root)?;
    let find = |flags: OFlag| {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(root.as_fd(), name, how)
    };
    // Opening a device can have effects, so the kind is checked first.
    let place = match find(OFlag::O_PATH) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
        place => place?,
    };
    let found = look(place.as_fd())?;
    let is_of_tree = found.mount.is_some() && found.mount == look(root.as_fd())?.mount;
    ensure!(FileType::from_mode(found.stat.mode) == Some(FileType::Regular), "is not a regular file");
    ensure!(is_of_tree || standing(place.as_fd())? == Standing::Ordinary, "is not a file of the tree");
    let file = find(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)?;
    let opened = stat(file.as_fd())?;
    let same = (opened.device, opened.number) == (found.stat.device, found.stat.number);
    ensure!(same, "changed while it was opened");
    ensure!(opened.size <= LARGEST, "is larger than {} MiB", LARGEST >> 20);
    Ok(Some(file.into()))
}

/// Reads the well-formed lines of a file below `root`. A missing file has none.
fn read<T>(root: &Path, name: &str, parse: fn(&str) -> Option<T>) -> Result<Vec<T>> {
    let shown = || root.join(name).display().to_string();
    let Some(file) = open(root, name).with_context(shown)? else { return Ok(Vec::new()) };
    // The file may grow meanwhile.
    let lines = BufReader::new(file.take(LARGEST)).split(b'\n').collect::<io::Result<Vec<_>>>().with_context(shown)?;
    Ok(lines.iter().filter_map(|line| parse(str::from_utf8(line).ok()?)).collect())
}

fn passwd_line(line: &str) -> Option<Passwd> {
    let mut fields = line.split(':');
    let (name, _password, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let (_gecos, home) = (fields.next(), fields.next().unwrap_or_default());
    Some(Passwd { name: name.into(), uid: uid.parse().ok()?, gid: gid.parse().ok()?, home: home.into() })
}

fn group_line(line: &str) -> Option<Group> {
    let mut fields = line.split(':');
    let (name, _password, gid, members) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let members = members.trim_end().split(',').filter(|member| !member.is_empty()).map(String::from).collect();
    Some(Group { name: name.into(), gid: gid.parse().ok()?, members })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        let passwd = "root:x:0:0::/root:/bin/sh\n# odd\nann:x:1000:100:Ann:/home/ann:/bin/sh\n7:x:9:9::/seven:\n";
        fs::write(root.path().join("etc/passwd.real"), passwd).unwrap();
        symlink("/etc/passwd.real", root.path().join("etc/passwd")).unwrap();
        fs::write(root.path().join("etc/group"), "staff:x:50:ann,bob\nwheel:x:10:bob\naudio:x:29:ann\n").unwrap();
        root
    }

    fn ids(root: &Path, text: &str) -> (u32, u32, Vec<u32>, Option<String>) {
        let account = resolve(root, text).unwrap();
        (account.user.uid, account.user.gid, account.user.additional_gids, account.home)
    }

    #[test]
    fn names_and_numbers_are_found() {
        let root = tree();
        let home = |text: &str| Some(text.to_string());
        assert_eq!(ids(root.path(), "ann"), (1000, 100, vec![50, 29], home("/home/ann")));
        assert_eq!(ids(root.path(), "1000"), (1000, 100, vec![50, 29], home("/home/ann")));
        assert_eq!(ids(root.path(), "ann:wheel"), (1000, 10, vec![], home("/home/ann")));
        assert_eq!(ids(root.path(), "ann:77"), (1000, 77, vec![], home("/home/ann")));
        assert_eq!(ids(root.path(), "4242"), (4242, 0, vec![], None));
        assert_eq!(ids(root.path(), "7"), (9, 9, vec![], home("/seven")));
    }

    #[test]
    fn unknown_names_are_named() {
        let root = tree();
        for (text, name) in [("eve", "`eve`"), ("ann:nobody", "`nobody`"), ("-1", "`-1`"), ("", "``")] {
            let error = resolve(root.path(), text).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("guest's /etc/"), "{error}");
        }
    }

    #[test]
    fn only_regular_files_of_some_size_are_read() {
        let root = tree();
        let path = root.path().join("etc/group");
        let refused = |reason: &str| {
            let error = format!("{:#}", resolve(root.path(), "ann").unwrap_err());
            assert!(error.contains("etc/group") && error.contains(reason), "{error}");
        };
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        refused("not a regular file");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        refused("not a regular file");
        fs::remove_dir(&path).unwrap();
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        refused("larger than 16 MiB");
    }

    #[test]
    fn a_tree_without_accounts_still_has_numbers() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(ids(root.path(), "5:6"), (5, 6, vec![], None));
        assert!(resolve(root.path(), "root").is_err());
    }
}
