//! Extended attributes of files in memory.

use std::collections::BTreeMap;

use amber_abi::errno::Errno;
use amber_platform::GuestMemory;

use super::Quota;

/// The bytes of attributes that count as one inode against the limit.
const UNIT: usize = 1024;
/// The overhead of an attribute beside its name and value, in bytes.
const OVERHEAD: usize = 64;

/// The number of inodes that an attribute counts as.
fn cost(name: &[u8], value: &[u8]) -> u64 {
    (OVERHEAD + name.len() + value.len()).div_ceil(UNIT) as u64
}

/// The attributes of one inode, by name.
#[derive(Default)]
pub(super) struct Xattrs(BTreeMap<Vec<u8>, Vec<u8>>);

impl Xattrs {
    /// The value of an attribute.
    ///
    /// # Errors
    /// `ENODATA` if it does not exist.
    pub(super) fn get(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        self.0.get(name).cloned().ok_or_else(|| Errno::ENODATA.here())
    }

    /// Sets an attribute, as setxattr(2) with `XATTR_CREATE` or `XATTR_REPLACE`. Charges it to `memory` and `inodes`.
    ///
    /// # Errors
    /// `EEXIST`, `ENODATA`, `ENOMEM`, `ENOSPC`.
    pub(super) fn set(
        &mut self,
        name: &[u8],
        value: &[u8],
        (create, replace): (bool, bool),
        memory: &GuestMemory,
        inodes: &Quota,
    ) -> Result<(), Errno> {
        let there = self.0.contains_key(name);
        if create && there {
            return Err(Errno::EEXIST.here());
        }
        if replace && !there {
            return Err(Errno::ENODATA.here());
        }
        memory.admit_lasting((OVERHEAD + name.len() + value.len()) as u64)?;
        inodes.take(cost(name, value))?;
        if let Some(old) = self.0.insert(name.to_vec(), value.to_vec()) {
            inodes.give_back(cost(name, &old));
        }
        Ok(())
    }

    /// Removes an attribute.
    ///
    /// # Errors
    /// `ENODATA` if it does not exist.
    pub(super) fn remove(&mut self, name: &[u8], inodes: &Quota) -> Result<(), Errno> {
        let old = self.0.remove(name).ok_or_else(|| Errno::ENODATA.here())?;
        inodes.give_back(cost(name, &old));
        Ok(())
    }

    /// Passes each name to `tell`.
    pub(super) fn names(&self, tell: &mut dyn FnMut(&[u8])) {
        self.0.keys().for_each(|name| tell(name));
    }

    /// The number of inodes that all attributes count as.
    pub(super) fn total_cost(&self) -> u64 {
        self.0.iter().map(|(name, value)| cost(name, value)).sum()
    }
}
