//! File system contexts of fsopen(2) and fspick(2): parameters of a new file system, or changes of an existing one.

use std::any::Any;
use std::sync::Arc;

use amber_abi::errno::Errno;

use crate::kernel::Kernel;
use crate::sync::{Mutex, Rank};
use crate::vfs::types::FileSystemType;
use crate::vfs::{File, Inode, Mount, MountOptions, SuperBlock, Vfs};

/// The phase of the context.
enum Phase {
    /// Accepts parameters of a new instance.
    Creating(&'static FileSystemType),
    /// The instance is made and can be mounted.
    Created,
    /// Accepts changes of the parameters of an existing instance.
    Changing,
}

struct State {
    phase: Phase,
    super_block: Option<Arc<SuperBlock>>,
    parameters: Vec<String>,
    read_only: Option<bool>,
    source: Option<Vec<u8>>,
}

/// A file system context.
pub(crate) struct MountContext {
    vfs: Arc<Vfs>,
    state: Mutex<State>,
}

impl MountContext {
    fn with(vfs: &Arc<Vfs>, phase: Phase, super_block: Option<Arc<SuperBlock>>) -> Arc<Self> {
        let state = State { phase, super_block, parameters: Vec::new(), read_only: None, source: None };
        Arc::new(MountContext { vfs: vfs.clone(), state: Mutex::new(Rank::Leaf, state) })
    }

    /// A context of a new instance of a type.
    pub(crate) fn create(vfs: &Arc<Vfs>, kind: &'static FileSystemType) -> Arc<Self> {
        Self::with(vfs, Phase::Creating(kind), None)
    }

    /// A context that changes an instance.
    pub(crate) fn change(super_block: Arc<SuperBlock>) -> Arc<Self> {
        Self::with(&super_block.root.vfs().clone(), Phase::Changing, Some(super_block))
    }

    /// Sets a parameter, with an optional value.
    ///
    /// # Errors
    /// `EBUSY` in the wrong phase; `EINVAL` for a second source.
    pub(crate) fn set(&self, key: &[u8], value: Option<&[u8]>) -> Result<(), Errno> {
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
                // One parameter must not be parsed as several.
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
    /// `EBUSY` if it is already made; errors of the file system.
    pub(crate) fn make(&self, kernel: &Arc<Kernel>) -> Result<(), Errno> {
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

    /// Applies the changes.
    ///
    /// # Errors
    /// `EBUSY` if the context has no existing instance, or the file system cannot become read-only; `EINVAL` from the
    /// file system.
    pub(crate) fn apply(&self) -> Result<(), Errno> {
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

    /// Makes a detached mount of the instance.
    ///
    /// # Errors
    /// `EINVAL` before the instance is made; `EBUSY` at the second call.
    pub(crate) fn mount(&self, options: MountOptions) -> Result<Arc<Mount>, Errno> {
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

    /// The context has no error messages to read.
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
