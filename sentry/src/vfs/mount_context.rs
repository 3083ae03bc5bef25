//! What fsopen(2) and fspick(2) open: a file system that is being put together, or to be changed.

use std::any::Any;
use std::sync::Arc;

use amber_abi::errno::Errno;

use crate::kernel::Kernel;
use crate::sync::{Mutex, Rank};
use crate::vfs::types::FileSystemType;
use crate::vfs::{File, Inode, Mount, MountOptions, SuperBlock, Vfs};

/// How far it is.
enum Phase {
    /// It takes parameters for a new instance.
    Creating(&'static FileSystemType),
    /// The instance is there and waits to be mounted.
    Created,
    /// The instance is in use and takes parameters to change.
    Changing,
}

struct State {
    phase: Phase,
    super_block: Option<Arc<SuperBlock>>,
    parameters: Vec<String>,
    read_only: Option<bool>,
    source: Option<Vec<u8>>,
}

/// The file behind the descriptor.
pub struct MountContext {
    vfs: Arc<Vfs>,
    state: Mutex<State>,
}

impl MountContext {
    fn with(vfs: &Arc<Vfs>, phase: Phase, super_block: Option<Arc<SuperBlock>>) -> Arc<Self> {
        let state = State { phase, super_block, parameters: Vec::new(), read_only: None, source: None };
        Arc::new(MountContext { vfs: vfs.clone(), state: Mutex::new(Rank::Leaf, state) })
    }

    /// For a new instance of a type.
    pub fn create(vfs: &Arc<Vfs>, kind: &'static FileSystemType) -> Arc<Self> {
        Self::with(vfs, Phase::Creating(kind), None)
    }

    /// For changes of an instance.
    pub fn change(super_block: Arc<SuperBlock>) -> Arc<Self> {
        Self::with(&super_block.root.vfs().clone(), Phase::Changing, Some(super_block))
    }

    /// Sets a parameter, with a value if it has one.
    ///
    /// # Errors
    /// `EBUSY` if it is not the time for that, `EINVAL` for a second source.
    pub fn set(&self, key: &[u8], value: Option<&[u8]>) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Created) {
            return Err(Errno::EBUSY.here());
        }
        match (key, value) {
            (b"ro", None) => state.read_only = Some(true),
            (b"rw", None) => state.read_only = Some(false),
            (b"source", Some(value)) if state.source.is_none() => state.source = Some(value.to_vec()),
            (b"source", _) => return Err(Errno::EINVAL.here()),
            _ => {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| Errno::EINVAL.here());
                let mut parameter = text(key)?;
                if let Some(value) = value {
                    parameter = format!("{parameter}={}", text(value)?);
                }
                // One parameter is not to be taken for several.
                if parameter.contains(',') {
                    return Err(Errno::EINVAL.here());
                }
                state.parameters.push(parameter);
            }
        }
        Ok(())
    }

    /// Makes the instance.
    ///
    /// # Errors
    /// `EBUSY` if that was done, and those of the file system.
    pub fn make(&self, kernel: &Arc<Kernel>) -> Result<(), Errno> {
        let (kind, parameters, read_only) = {
            let mut state = self.state.lock();
            let Phase::Creating(kind) = state.phase else { return Err(Errno::EBUSY.here()) };
            (kind, std::mem::take(&mut state.parameters), state.read_only.take().unwrap_or(false))
        };
        let super_block = SuperBlock::new(&self.vfs, (kind.make)(kernel, &parameters.join(","))?, read_only);
        let mut state = self.state.lock();
        state.phase = Phase::Created;
        let old = state.super_block.replace(super_block);
        drop(state);
        drop(old);
        Ok(())
    }

    /// Makes the changes asked for.
    ///
    /// # Errors
    /// `EBUSY` if there is no instance in use, or it cannot become read-only; `EINVAL` by the file system.
    pub fn apply(&self) -> Result<(), Errno> {
        let (super_block, parameters, read_only) = {
            let mut state = self.state.lock();
            let (Phase::Changing, Some(super_block)) = (&state.phase, state.super_block.clone()) else {
                return Err(Errno::EBUSY.here());
            };
            (super_block, std::mem::take(&mut state.parameters), state.read_only.take())
        };
        super_block.fs.reconfigure(&parameters.join(","))?;
        read_only.map_or(Ok(()), |read_only| super_block.set_read_only(read_only))
    }

    /// A mount of the instance, which is nowhere yet.
    ///
    /// # Errors
    /// `EINVAL` before the instance was made, `EBUSY` if this was done.
    pub fn mount(&self, options: MountOptions) -> Result<Arc<Mount>, Errno> {
        let mut state = self.state.lock();
        let super_block = state.super_block.clone().ok_or_else(|| Errno::EINVAL.here())?;
        if !matches!(state.phase, Phase::Created) {
            return Err(Errno::EBUSY.here());
        }
        state.phase = Phase::Changing;
        let source = state.source.clone().unwrap_or_else(|| b"none".to_vec());
        let root = super_block.root.clone();
        Ok(Mount::new(super_block, root, source, options))
    }
}

impl File for MountContext {
    fn inode(&self) -> Arc<dyn Inode> {
        self.vfs.anonymous.inode()
    }

    /// There are no messages about what went wrong.
    fn read_at(&self, _: &mut [u8], _: u64) -> Result<usize, Errno> {
        Err(Errno::ENODATA.here())
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn link_text(&self) -> Option<String> {
        Some("anon_inode:[fscontext]".to_owned())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
