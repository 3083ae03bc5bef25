//! Mappable guest memory with fixed content.

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_platform::{FrameRange, Frames};

use super::{Mappable, Mapping};

/// Guest memory with fixed content, such as the vDSO.
pub(crate) struct FixedPages {
    frames: Frames,
}

impl FixedPages {
    /// An object of these frames.
    pub(crate) fn new(frames: Frames) -> Arc<Self> {
        Arc::new(FixedPages { frames })
    }

    /// The frames.
    pub(crate) fn range(&self) -> FrameRange {
        self.frames.range()
    }
}

impl Mappable for FixedPages {
    fn frames(&self, offset: u64, most: u64, write: bool) -> Result<Frames, Errno> {
        let len = self.frames.range().len;
        if offset >= len || write {
            return Err(Errno::EFAULT.here());
        }
        Ok(self.frames.part(offset, most.min(len - offset)))
    }

    fn len(&self) -> u64 {
        self.frames.range().len
    }

    fn attach(&self, _: Arc<dyn Mapping>) {}

    fn detach(&self, _: &Arc<dyn Mapping>) {}

    fn write_back(&self, _: u64, _: u64) -> Result<(), Errno> {
        Ok(())
    }
}
