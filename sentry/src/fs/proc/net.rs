//! `/proc/net`: the files that the network makes, and the registry in which it enters them.

use std::sync::Arc;

use amber_abi::errno::Errno;

use crate::fs::pseudo::{Entry, Listed, Listing, Query, Subject};
use crate::kernel::Kernel;

/// A file of `/proc/net`: its name and what makes its content.
pub type NetFile = (&'static str, fn(&Kernel) -> Vec<u8>);

/// All files of `/proc/net`: the network's parts enter theirs here.
static FILES: &[NetFile] = &[];

static FILE: Entry = Entry::file("", 0o444, content);

fn content(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let at = usize::try_from(query.subject.index).unwrap_or(usize::MAX);
    FILES.get(at).map(|(_, make)| make(query.kernel)).ok_or(Errno::ENOENT)
}

/// The directory `net` of a process: all processes are in one network.
pub struct NetFiles;

impl Listing for NetFiles {
    fn find(&self, _: &Arc<Kernel>, subject: &Subject, name: &[u8]) -> Result<(&'static Entry, Subject), Errno> {
        let at = FILES.iter().position(|(file, _)| file.as_bytes() == name).ok_or(Errno::ENOENT)?;
        Ok((&FILE, Subject { index: at as i32, ..subject.clone() }))
    }

    fn list(&self, _: &Arc<Kernel>, _: &Subject) -> Result<Vec<Listed>, Errno> {
        let all = FILES.iter().enumerate();
        Ok(all.map(|(i, (name, _))| Listed { cookie: i as u64 + 1, name: (*name).to_owned(), entry: &FILE }).collect())
    }
}
